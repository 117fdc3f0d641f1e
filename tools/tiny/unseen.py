"""Keeps the forms of the hand-written unseen lists, and the sentences of all hand-written lists, out of the training captions.

    python unseen.py [COUNT]                 COUNT generated captions to compare with (default 1,000,000; five minutes on one core): which forms the
                                             generator would write; training (pool.py) takes another scene instead of one of these

Captions are compared by their form: small letters, no punctuation at the ends, names of colours, shapes, patterns and sizes and the words that are to be
written replaced by one letter each, and in sentences about other things the nouns, adjectives and verbs of outside.py."""
import re
import sys

from captions import by_hand
from outside import ADJECTIVES, NOUNS, VERBS
from scenes import Scenes
from world import COLOR_NAMES, COLOR_WORDS, MORE_COLOR_WORDS, MORE_SIZE_WORDS, PATTERN_WORDS, PATTERNS, SHAPE_WORDS, SHAPES, SIZE_WORDS, SIZES

LISTS = ('loose_unseen.txt', 'outside_unseen.txt')
OTHERS = ('loose.txt', 'loose_validation.txt', 'loose_later.txt', 'later8.txt', 'combined.txt', 'outside.txt', 'outside_validation.txt', 'uncolored.txt')


def alternatives(*groups):
    words = {w for g in groups for x in g for w in ([x] if isinstance(x, str) else x) if w}
    return '|'.join(sorted(map(re.escape, words), key=len, reverse=True))


NAMES = [('C', re.compile(rf'\b({alternatives(COLOR_NAMES, COLOR_WORDS.values(), MORE_COLOR_WORDS.values())})\b')),
         ('S', re.compile(rf'\b({alternatives(SHAPES, SHAPE_WORDS.values())})(?=e?s?\b)')),
         ('P', re.compile(rf'\b({alternatives(PATTERNS, PATTERN_WORDS)})\b')), ('Z', re.compile(rf'\b({alternatives(SIZES, SIZE_WORDS, MORE_SIZE_WORDS)})\b')),
         ('N', re.compile(rf'\b({alternatives(NOUNS)})\b')), ('A', re.compile(rf'\b({alternatives(ADJECTIVES)})\b')), ('V', re.compile(rf'\b({alternatives(VERBS)})\b'))]


def form(caption, words):
    for w in words:
        caption = re.sub(rf'(?<!\w){re.escape(w["text"])}(?!\w)', 'W', caption, count=1)
    caption = ' '.join(caption.replace('W', '\0').lower().split())
    for letter, pattern in NAMES:
        caption = pattern.sub(letter, caption)
    return re.sub(r'\b(a|an)\b', 'a', caption).strip(' .,!?')


def unseen_forms():
    """Of every form: list and caption"""
    return {form(t['caption'], t['words']): (name, t['caption']) for name in LISTS for t in by_hand(name)}


def letters(caption):
    """What is compared of a sentence: its words in small letters"""
    return ' '.join(re.findall(r'\w+', caption.lower()))


class KeptOut:
    """Which scenes training may not have"""

    def __init__(self):
        self.forms, self.sentences = unseen_forms(), {letters(t['caption']) for name in LISTS + OTHERS for t in by_hand(name)}

    def __contains__(self, truth):
        return letters(truth['caption']) in self.sentences or form(truth['caption'], truth['words']) in self.forms


def main(count=1000000):
    written = unseen_forms()
    scenes, met = Scenes(20261126), set()
    for i in range(int(count)):
        _, _, truth = scenes.next(i % 4)
        made = form(truth['caption'], truth['words'])
        if made in written and made not in met:
            met.add(made)
            print(*written[made], '| made:', truth['caption'], flush=True)
    print(f'{len(met)} of {len(written)} captions have a form that occurs among {count} generated ones')


if __name__ == '__main__':
    main(*sys.argv[1:])
