"""Requests as people write them, put together from free parts: unquoted words, fragments, any order, polite or not, with filler words around."""
from clauses import clause
from phrases import plural
from world import MORE_SIZE_WORDS, PATTERN_AFTER, PATTERN_WORDS, POSITION_WORDS, POSITIONS, SHAPE_WORDS, SHAPES, SIZE_WORDS

GREETINGS = ['hey', 'hi', 'hello,', 'ok', 'okay', 'so', 'well,', 'now', 'please', 'yes,', 'hm,', 'alright,', 'good morning,', 'dear computer,']
WISHES = '''draw;draw me;draw us;can you draw;could you draw;would you draw;can you make;could you make;can i have;could i have;may i have;i want;i want to see;i wanted;we want;i would like;
i'd like;i like;i need;we need;i am looking for;i was thinking of;give me;give us;show me;show;let me see;let us see;make;make me;create;generate;paint;paint me;sketch;produce;print;design;
render;put;add;place;get me;do;try;use;a picture of;a picture with;an image of;an image with;a drawing of;a painting of;a photo of;an icon of;an icon with;a logo with;a poster with;
a card with;a page with;a sticker of;a simple drawing of;here is;this is;there is;there should be;i see;we see;imagine;it is;only;just;simply;nothing but;some;my wish is;
the picture shows;on the picture there is;as a test,;for my daughter,;for the website:;next:;picture:;image:;prompt:'''.replace('\n', '').split(';')
ENDINGS = '''please;pls;, please;thanks;, thanks;, thank you;thank you;for me;for us;now;today;again;here;, ok?;, okay;, quickly;, nice and clean;, very simple;, as big as you like;for my friend;
, that is all;, only this;, and that is it;, not more;, flat;, clean lines;, vector style;, no shadow;, without anything around it;, i said;for a card;for a poster;for the kids;
, like in a book;, as always;, you know;?;??;!;!!;.;...;:);, what do you think?;or so;, whatever'''.replace('\n', '').split(';')
COMMON = '''about after again all almost also always any anything around back because been before best better but buddy come could day does done down each else enough even ever every first
friend from fun get going got great have here how idea it kind know last later less let long look lot many maybe mean mine more most much must need never next new nobody not now often other our
own perhaps place put quick quite ready real right said same say see should shown since some someone something soon still such sure take tell than that then they thing think this though time
today tomorrow too try under until up use usual very want was way well were what when where which while who why will wish with work would yes yet you your'''.split()
PEOPLE = '''son;daughter;mother;father;brother;sister;wife;husband;boss;teacher;friend;neighbour;grandson;grandmother;uncle;aunt;cousin;nephew;niece;client;customer;colleague;student;
class;team;little one;children;kids;parents;girlfriend;boyfriend;baby sister;pupil;group'''.replace('\n', '').split(';')
WISH_FOR = '''wants;wanted;needs;needed;asked for;asks for;asked me for;would love;would like;wished for;likes;loves;is asking for;keeps asking for;begged for;insists on;told me to draw;
dreams of;is waiting for;ordered;chose;said: draw'''.replace('\n', '').split(';')
AFTERWARDS = '''as soon as you can;as fast as possible;right away;by tonight;cheers;much appreciated;it is urgent;if you do not mind;when you have a minute;, that would be great;, ok bye;
, we need it today;, and hurry;, best regards;, many thanks;, if possible'''.replace('\n', '').split(';')
DRAWN = ['{} that is {}', '{}, {}', '{} ({})', '{} {}', '{} in {}', '{} colored {}', '{} painted {}', '{} in {} color', '{} of {} color', '{}: {}', '{} and it is {}', '{}, make it {}',
         '{}, color {}', '{} filled with {}', '{} - {}']
MORE_DRAWN = ['{} coloured {}', '{} coloured in {}', '{} tinted {}', '{} done in {}', '{} in a {} tone', '{} dyed {}', '{} all in {}', '{}, all {}']  # of Phrases.wide
MARKS = ['', 'stripes', 'dots', 'checks']
MARKED = ['{m} on a {n}', '{m} on {n}', '{n} covered in {m}', '{n} full of {m}', '{n} that has {m}', '{n} with {m} on it', '{n}, with {m}', '{n} and it has {m}', 'a {n} having {m}']
IN_COLOR = ['{} in {}', '{} in {} letters', '{} in big {} letters', '{} in large {} letters', '{} in {} text', '{} written in {}', '{} with {} letters', '{}, {} letters', '{} as {} text',
            '{} in bold {}', '{} in thick {} letters', '{} printed in {}', '{} in {} ink', '{} in the color {}', '{} {}', '{}, {}', '{} ({})', '{} - {}']
BARE = ['{} in {}', '{} {}', '{}, {}', '{} ({})', '{} - {}', '{} in bold {}', '{} in the color {}']  # of IN_COLOR: say not that text is meant
CUES = '''write;print;type;spell;say;put;show;write me;write down;just write;please write;can you write;could you print;it says;it should say;text;the text;word;the word;a word:;
text:;word:;a sign that says;a sign saying;a sign with;sign:;a poster that says;a poster saying;a label saying;a label with the word;a title that reads;a card that says;the name;
a logo that says;the title;caption:;a shirt that says;letters:;the letters;big text;large text;a note that reads;the slogan;writing that says;the inscription'''.replace('\n', '').split(';')
NUMBER_CUES = ['the number', 'number', 'the digits', 'digits', 'the numerals', 'the figure', 'write the number', 'write the digits', 'the digits:', 'a sign with the number']
LONGEST_LOUD = 40  # letters of a request in capitals or with a capital for each word, each a token of its own
LOUD_STARTS, LOUD_ENDS = ['DRAW', 'PLEASE DRAW', 'I WANT', 'GIVE ME', 'JUST', 'MAKE', 'SHOW ME', 'A PICTURE OF', 'PAINT', 'I NEED'], ['', '', '', '!', '!!', '.', ' PLEASE', ' NOW']
SMALL_IN_TITLES = {'A', 'An', 'The', 'And', 'In', 'On', 'With', 'Of', 'To', 'At', 'Above', 'Below', 'Inside', 'Over', 'Under', 'Is'}
UNQUOTED = '''write;write;write;write;print;type;say;spell;write me;write down;just write;please write;can you write;could you print;it says;it should say;text:;the text;the words;the words;
two words:;a sign that says;a sign saying;a poster that says;a poster saying;a label saying;a card that says;a banner saying;a logo that says;a shirt that says;a note that reads'''.replace('\n', '').split(';')
BESIDE = ['{} and {}', '{}, {}', '{} & {}', '{} + {}', '{} plus {}', '{} and also {}', '{} and then {}', '{} next to {}', '{} beside {}', '{} by {}', '{} with {}', '{} with {} beside it',
          '{} with {} next to it', '{} together with {}', '{} as well as {}', '{} on the left and {} on the right', '{} on the left, {} on the right', 'left {}, right {}', '{} left of {}',
          'on the left {} and on the right {}', 'two shapes: {} and {}', 'first {}, second {}', '{} followed by {}', '{} and next to it {}', '{} and to the right of it {}',
          'two things, {} and {}', '{}, then {}', '{} and one {}', '{} alongside {}', '{} at the left of {}', '{} and beside it {}', '{}. {}', '{}; {}']
ABOVE = ['{} above {}', '{} over {}', '{} on top of {}', '{} on {}', '{} at the top and {} at the bottom', '{} at the top, {} at the bottom', '{} with {} below it', '{} with {} under it',
         '{} with {} underneath', 'top {}, bottom {}', '{} standing on {}', '{} lying on {}', '{} floating above {}', '{} and below it {}', '{} and under it {}', '{} higher than {}',
         'on top {}, below {}', '{} and beneath it {}', '{}, below it {}', '{} hovering over {}']
BELOW = ['{} below {}', '{} under {}', '{} beneath {}', '{} underneath {}', '{} with {} above it', '{} with {} over it', '{} with {} on top', '{} and above it {}', '{} lower than {}',
         '{} at the bottom and {} at the top', '{}, above it {}']
INSIDE = ['{} inside {}', '{} in {}', '{} within {}', '{} inside of {}', '{} in the middle of {}', '{} enclosed by {}', '{} surrounded by {}', '{} placed inside {}']
AROUND = ['{} with {} inside', '{} with {} in it', '{} with {} inside it', '{} with {} in the middle', '{} containing {}', '{} around {}', '{} holding {}', '{} and inside it {}',
          '{} and in it {}']
WORD_BELOW = ['{} and below it {}', '{}, {} below it', '{} and under it {}', '{} over {}', '{}, below it {}', '{} with {} under it', '{} above {}', '{}, under it {}', '{} with the text {}',
              '{} and the word {}', '{} and the text {}', '{} with {}', '{} with the name {} below', '{} labeled {}', '{} with the caption {}', '{}, text {}', '{} and {} beneath']
WORD_ABOVE = ['{} below {}', '{} under {}', '{} and above it {}', '{}, {} above it', '{} with {} above', '{} and over it {}', '{} with the title {}', '{} with {} on top', '{} beneath {}']
GROUNDS = ['{0} on {1}', '{0}, {1} background', '{0} {1} background', '{0} with {1} background', '{0}, background {1}', '{0}, background: {1}', '{0} on {1} background', '{1} background, {0}',
           '{1} background: {0}', '{0}, on {1}', '{0} and the background is {1}', '{1} background with {0}', '{0} in front of {1}', '{0}, {1} behind it', '{0}. make the background {1}',
           '{0} on {1} paper', '{0} on a {1} page', '{0} bg {1}', '{0}, {1} bg', '{0} {1} bg', 'on {1}: {0}', 'on {1} {0}', '{0} over {1}', '{0} against {1}', '{0} on a {1} wall',
           '{0}. background {1}', '{0} and a {1} background', 'background {1}, {0}', '{1} backdrop, {0}', '{0} with {1} in the back', '{0} on a {1} canvas', '{0}. the background is {1}']


class Loose:
    def __init__(self, random, say):
        self.r, self.say, self.starts_with_text, self.ends_with_text = random, say, False, False

    def chance(self, p):
        return self.r.random() < p

    def size(self, size):
        return self.r.choice(MORE_SIZE_WORDS[size] if self.say.wide and self.chance(.25) else SIZE_WORDS[size])

    def listed(self, shape, color, pattern, size):
        """A noun and its attributes one after the other, in any order"""
        r = self.r
        parts = [r.choice([SHAPES[shape]] * 2 + SHAPE_WORDS[SHAPES[shape]])]
        parts += [self.say.color(color)] if color is not None else []
        parts += [self.size(size)] if size else []
        parts += [r.choice(PATTERN_WORDS[pattern])] if pattern else []
        r.shuffle(parts)
        return r.choice([', ', ', ', ', ', ' ', ' - ', ' / ', '; ', '. ', ' and ']).join(parts)

    def thing(self, shape, color, pattern=0, size=0):
        """A noun with its attributes in any place"""
        r, after = self.r, []
        noun = r.choice([SHAPES[shape]] * 2 + SHAPE_WORDS[SHAPES[shape]])
        before = [self.size(size)] if size else []
        if pattern and self.chance(.25):
            after.append(PATTERN_AFTER[pattern].strip())
        elif pattern:
            before.append(r.choice(PATTERN_WORDS[pattern]))
        name = self.say.color(color) if color is not None else None
        turned = name is not None and self.chance(.22)
        if name is not None and not turned:
            before.append(name)
        if self.chance(.3):
            r.shuffle(before)
        if self.chance(.12):
            before.insert(0, r.choice(['very', 'nice', 'simple', 'plain', 'cute', 'big bold', 'perfect', 'good', 'lovely', 'single', 'clear', 'real', 'neat', 'solid', 'flat', r.choice(COMMON)]))
        text = ' '.join(before + [noun] + after)
        if turned:
            text = r.choice(MORE_DRAWN if self.say.wide and self.chance(.3) else DRAWN).format(text, name)
        return r.choice(['', '', '', 'a ', 'a ', 'the ', 'one ', 'some ', 'this ', 'a single ', 'my ', 'another ']) + text

    def marked(self, shape, color, pattern, size):
        """A noun whose pattern is named as a thing of its own"""
        return self.r.choice(MARKED).format(m=MARKS[pattern], n=self.thing(shape, color, 0, size).removeprefix('a '))

    def one(self, shape, color, pattern, size, position):
        x = self.r.random() if self.say.wide else 1
        text = self.listed(shape, color, pattern, size) if x < .1 else self.marked(shape, color, pattern, size) if x < .25 and pattern else self.thing(shape, color, pattern, size)
        if not position and self.chance(.85):
            return text
        place = self.r.choice([POSITIONS[position]] + POSITION_WORDS[position])
        return self.r.choice(['{0} {1}', '{0} {1}', '{0}, {1}', '{1} {0}', '{1}: {0}', '{1}, {0}', '{0} ({1})', '{1} there is {0}', '{0} placed {1}', '{0}, put it {1}']).format(text, place)

    def two(self, first, second, relation):
        """first, second: shape, colour, pattern; the first stands in this relation to the second"""
        a, b = self.thing(*first), self.thing(*second)
        if self.say.wide and self.chance(.25):
            return clause(self.r, a, b, relation)
        if relation == 4:
            return self.r.choice(INSIDE).format(a, b) if self.chance(.5) else self.r.choice(AROUND).format(b, a)
        if relation == 1:
            a, b = b, a
        if relation == 3 and self.chance(.5):
            return self.r.choice(BELOW).format(a, b)
        return self.r.choice(BESIDE).format(a, b) if relation < 2 else self.r.choice(ABOVE).format(*((a, b) if relation == 2 else (b, a)))

    def pair(self, shape, color, pattern=0):
        kind = self.r.choice(PATTERN_WORDS[pattern]) + ' ' if pattern else ''
        one = kind + self.r.choice([SHAPES[shape]] * 2 + SHAPE_WORDS[SHAPES[shape]])
        many, c = plural(one), '' if color is None else self.say.color(color)
        count = self.r.choice(['two', 'two', 'two', '2', 'a pair of', 'a couple of', 'exactly two', 'a set of two', 'twice', 'a few', 'two times'])
        if color is None:
            return self.r.choice(['{n} {m}', '{n} {m}', '{n} identical {m}', 'one {o} and another {o}', '{n} {m} next to each other', '{o} and {o}', '{m}']).format(n=count, m=many, o=one)
        return self.r.choice(['{n} {c} {m}', '{n} {c} {m}', '{n} {c} {m}', '{n} {m} in {c}', '{n} {m}, {c}', '{n} identical {c} {m}', '{c} {m}, {n}', '{n} equal {m} in {c}', '{n} {m} that are {c}',
                              'one {c} {o} and another {c} {o}', '{c} {o}, {c} {o}', '{c} {o} and {c} {o}', '{n} {c} {m} next to each other', '{n} {c} {m} side by side', '{n} {m} ({c})',
                              '{n} of these: {c} {o}', '{c} {m}']).format(n=count, c=c, m=many, o=one)

    def quoted(self, text):
        return self.r.choice(['"{}"', '"{}"', '"{}"', "'{}'", '\u201c{}\u201d']).format(text)

    def word(self, text, color, last=True):
        """A text with its colour; without quotes only where capitals or a cue show that text is meant. last: nothing else follows"""
        r, c = self.r, self.say.color(color) if color is not None else None
        x, capitals = r.random(), len(text) > 1 and text.isupper()
        if x < .45 and (capitals or c is not None):  # begins with the text itself
            self.starts_with_text = True
            if c is None:
                return r.choice(['{}', '{}', '{} in big letters', '{} as text', '{} in letters', '{} written out']).format(text)
            return r.choice(IN_COLOR if capitals else [f for f in IN_COLOR if f not in BARE]).format(text, c)
        q = self.quoted(text) if x > .8 else text
        if self.say.wide and text.isdigit() and self.chance(.4):
            return f'{r.choice(NUMBER_CUES)} {self.quoted(text) if self.chance(.4) else text}' + ('' if c is None else f' in {c}')
        if c is None:
            return f'{r.choice(CUES)} {q}'
        if self.chance(.2):
            return r.choice(['{c} text {q}', '{c} letters {q}', '{c} word {q}', 'the {c} word {q}', 'big {c} letters: {q}', 'in {c}: the word {q}', 'in {c}, write {q}', 'in {c} the text {q}',
                             'a {c} sign that says {q}', 'the {c} text {q}', 'large {c} {q}' if capitals else '{c} word {q}']).format(c=c, q=q)
        return f'{r.choice(CUES)} {r.choice(IN_COLOR).format(q, c)}'

    def both(self, noun, text, color, above):
        """above: the shape is"""
        r, name = self.r, self.say.color(color) if color is not None else None
        if text.isupper() and len(text) > 1 and self.chance(.3):
            self.starts_with_text = True
            t = r.choice(['{} in {}', '{} {}', '{} in {} letters']).format(text, name) if name else text
            forms = ['{t} below {n}', '{t} under {n}', '{t} beneath {n}', '{t} and {n} above it', '{t} with {n} above', '{t}, {n} above it', '{t} with {n}', '{t} and {n}', '{t} plus {n}',
                     '{t}, {n}'] if above else \
                ['{t} above {n}', '{t} over {n}', '{t} and {n} below it', '{t} on top, {n} below', '{t} with {n} under it', '{t}, below it {n}']
            return r.choice(forms).format(t=t, n=noun)
        q = text if self.chance(.5) and (text.isupper() and len(text) > 1) else self.quoted(text)
        cue = r.choice(['', '', 'the word ', 'the text ', 'text ', 'the letters ']) if q != text or text.isupper() else 'the word '
        t = cue + (r.choice(['{} in {}', '{} in {}', '{} in {} letters', '{} {}', '{}, {}', '{} written in {}']).format(q, name) if name else q)
        if self.say.wide and self.chance(.2):
            return clause(r, t, noun, 3 if above else 2, written=True)
        return r.choice(WORD_BELOW if above else WORD_ABOVE).format(noun, t)

    def lines(self, first, second, color):
        """Two lines of text"""
        r, name = self.r, self.say.color(color) if color is not None else None
        capitals = first.isupper() and second.isupper() and len(first) > 1
        if capitals and self.chance(.5):
            self.starts_with_text = True
            t = r.choice(['{} {}', '{} {}', '{} and {}', '{}, {}', '{} above {}', '{} / {}', '{} over {}', '{} and below it {}']).format(first, second)
        else:
            cue = r.choice(['write', 'the words', 'the text', 'print', 'two words:', 'a sign that says', 'text', 'the lines', 'a poster saying', 'two lines:', 'say', 'type'])
            joined = r.choice(['{} {}', '{} {}', '{} and {}', '{} then {}']).format(first, second)
            t = f'{cue} ' + (self.quoted(joined) if self.chance(.3) and ' and' not in joined and ' then' not in joined else joined)
        return r.choice(['{} in {}', '{} in {}', '{} in {} letters', '{} in big {} letters', '{}, {} letters', '{} written in {}', '{}, in {}']).format(t, name) if name else t

    def unquoted(self, texts, color):
        """A request to write one text or two, without quotes"""
        self.starts_with_text = self.ends_with_text = True  # no wish in front, and behind it nothing that could be meant
        cue = self.r.choice(UNQUOTED)
        caption = f'{cue.upper() if texts[0].isupper() and self.chance(.3) else cue} {" ".join(texts)}'
        return caption if color is None else f'{caption} in {self.say.color(color)}'

    def on_background(self, caption, background):
        form = self.r.choice(GROUNDS)
        if self.starts_with_text:  # keep the text in front
            while not form.startswith('{0}'):
                form = self.r.choice(GROUNDS)
        return form.format(caption, self.say.color(background))

    def filler(self):
        return ' '.join(self.r.choice(COMMON) for _ in range(self.r.randint(1, 3)))

    def loud(self, caption):
        """A caption without a text in capitals, or with a capital for each word"""
        r = self.r
        if self.chance(.5):
            start = r.choice(LOUD_STARTS) + ' ' if self.chance(.35) else ''
            return start + caption.upper() + r.choice(LOUD_ENDS)
        caption = caption.title()
        if self.chance(.5):
            caption = ' '.join(w.lower() if i and w in SMALL_IN_TITLES else w for i, w in enumerate(caption.split()))
        if self.chance(.2):
            caption = f'{r.choice(WISHES)} {caption}'
        return caption + (r.choice([' pls', ' please', ', please', ' thanks', '!', '.', ' for me']) if self.chance(.25) else '')

    def finish(self, caption, without_text):
        """What people say before and after it, and with which letters"""
        r, x = self.r, self.r.random()
        if not self.starts_with_text:
            if x < .42:
                caption = f'{r.choice(WISHES)} {caption}'
            elif x < .52:
                caption = f'{self.filler()} {caption}'
            elif self.say.wide and x < .60:
                caption = f'{r.choice(["my", "my", "my", "our", "the"])} {r.choice(PEOPLE)} {r.choice(WISH_FOR)} {caption}'
            if self.chance(.12):
                caption = f'{r.choice(GREETINGS)} {caption}'
        x = r.random()
        if x < .32:
            end = r.choice(ENDINGS)
            caption += end if end[0] in ',.?!' else ' ' + end
        elif x < .37:
            caption += '' if self.ends_with_text else ' ' + self.filler()
        elif self.say.wide and x < .43 and not self.ends_with_text:
            end = r.choice([*AFTERWARDS, f'for my {r.choice(PEOPLE)}', f', says my {r.choice(PEOPLE)}'])
            caption += end if end[0] == ',' else ' ' + end
        if without_text and self.chance(.04):
            return caption.title()
        return caption if self.starts_with_text or self.chance(.8) else caption[0].upper() + caption[1:]

