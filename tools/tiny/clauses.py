"""Two things in a whole sentence with a verb, or the second of them in a sentence of its own. Relations as in world.RELATIONS."""
from world import INSIDE

VERBS = ['is', 'is', 'sits', 'stands', 'lies', 'is placed', 'appears', 'rests', 'goes', 'is drawn', 'can be seen', 'is put', 'must be', 'should be', 'hangs', 'stays']
WRITTEN = ['is', 'is', 'is written', 'stands', 'is printed', 'appears', 'goes', 'should be', 'can be read', 'reads', 'is put']
PLACES = [['to the left of', 'left of', 'on the left of'], ['to the right of', 'right of', 'on the right of'], ['above', 'over', 'on top of'], ['below', 'under', 'beneath', 'underneath'],
          ['inside', 'in', 'within', 'inside of', 'in the middle of']]
OWN = [['is left of', 'leans left of'], ['is right of', 'leans right of'], ['hovers over', 'hovers above', 'floats above', 'floats over', 'hangs over', 'stands on', 'sits on', 'flies over', 'tops'],
       ['hangs below', 'hides under', 'hangs from', 'floats below', 'sits underneath'], ['fits in', 'floats in', 'fills the middle of']]
THEN = [['to the left of it', 'to its left', 'on its left', 'left of it', 'on the left of it'], ['to the right of it', 'to its right', 'on its right', 'right of it', 'on the right of it'],
        ['above it', 'over it', 'on top of it', 'above that', 'over that'], ['below it', 'under it', 'beneath it', 'underneath', 'below that', 'under that', 'underneath it'],
        ['inside it', 'in it', 'within it', 'in the middle of it', 'inside']]
AFTER_POINT = ['{b}. {T}, {a}', '{b}. {T}, {a}', '{b}. {T} is {a}', '{b}. {T} there is {a}', '{b}. {T}: {a}', '{b}. {T} {a}', 'There is {b}. {T} there is {a}', 'There is {b}. {T} is {a}',
               'first {b}. then, {t}, {a}', '{b}. And {t} {a}', '{b}. Put {a} {t}', '{b}. {A} is {t}', '{b}. {A} goes {t}', '{b}; {t}, {a}', '{b}; {t} is {a}', '{b} and {t} is {a}', '{b}, and {t} {a}']


def capital(text):
    return text[0].upper() + text[1:]


def with_verb(random, first, second, relation, written=False):
    """The first stands in the relation to the second; written: it is a text"""
    if not written and random.random() < .35:
        return f'{first} {random.choice(OWN[relation])} {second}'
    return f'{first} {random.choice(WRITTEN if written else VERBS)} {random.choice(PLACES[relation])} {second}'


def in_two_sentences(random, first, second, relation):
    then = random.choice(THEN[relation])
    both = random.choice(AFTER_POINT).format(a=first, A=capital(first), b=second, t=then, T=capital(then))
    return capital(both) if random.random() < .4 else both


def clause(random, first, second, relation, written=False):
    """One of both"""
    if random.random() < .5:
        return with_verb(random, first, second, relation, written)
    return in_two_sentences(random, first, second, relation)


assert len(THEN) == INSIDE + 1
