"""Random captioned scenes: a caption, the row of numbers that the renderer draws, and the truth in words."""
import random

import numpy as np

from clauses import clause
from everyday import EVERYDAY
from loose import LONGEST_LOUD, Loose
from outside import Outside
from phrases import Phrases, contrast, plural
from world import (CAPITALS, COLOR, COLOR_NAMES, DESCENDERS, DIGITS, EMBLEM, GLYPHS, HELD_TRIPLE, INSIDE, LIGHT, MAX_LETTERS, PATTERN_WORDS, PATTERNS, PICTURE_SIZES, POSITION_WORDS,
                   POSITION_XY, POSITIONS, RELATION_WORDS, RELATIONS, RING, ROOM, ROOMY, ROW, SHAPE_AT, SHAPE_WORDS, SHAPES, SIZE_RADIUS, SIZE_SHIFT, SIZES, SMALL, WORD_AT, WORDS, is_held_word,
                   plain_background)

KINDS = {'one': .17, 'two': .20, 'word': .26, 'both': .15, 'lines': .11, 'outside': .20}  # weights
HELD_KINDS = {'one': .3, 'two': .2, 'word': .25, 'both': .2, 'lines': .05}
CASES = {'upper': .36, 'lower': .40, 'capital': .12, 'mixed': .12}
HELD_CASES = {'upper': .48, 'lower': .34, 'capital': .12, 'mixed': .06}
LENGTHS, HELD_LENGTHS = (.8, .8, 1.3, 1.4, 1.5, 1.6, 1.2, 1.2), (1, 1, 1.5, 1.5, 1.5, 1.5, .8, .8)  # of random words: weights of one letter, two ...
FREE_SHARE = .7  # of the loose captions that loose.py writes
UNCOLORED_SHARE = .22  # of the varied and loose captions: some shape's colour is left out; it is then black, on dark ground white
PATTERNED_SHARE = .3  # of the pairs of shapes
LOUD_SHARE = .25  # of the captions of shapes: in capitals or with a capital for each word, where short enough
UNQUOTED_SHARE, TWO_UNQUOTED_SHARE, EVERYDAY_SHARE = .22, .35, .75  # of the varied and loose words and pairs of words: requests to write without quotes; of their known words
ONE_QUOTE_SHARE = .25  # of the captions with two words: both in one pair of quotes
CLAUSE_SHARE = .2  # of the varied captions of two things: whole sentences
UNREADABLE_SHARE = .2  # of the varied and loose captions of something inside a shape: its colour is left out
UNQUOTED_CASES = {'lower': .65, 'upper': .15, 'capital': .15, 'mixed': .05}
HOLDER, LEAST_LETTER = .82, 19  # radius of a shape with a word inside; pixels that a letter of it needs
HELD_WORDS = ['{0} with {1} inside', '{0} with {1} inside', '{0} with {1} in it', '{0} with {1} in the middle', '{1} in {0}', '{1} within {0}', '{0} containing {1}', '{0} and inside it {1}']
ONE_QUOTE = ['the words {}', 'the words {}', '{}', 'the text {}', 'a sign that says {}', 'text saying {}', 'write {}', 'the phrase {}', 'a poster with {}', 'a sign that reads {}', 'the two words {}']
TINTS = [' in {}', ' in {}', ' in {}', ' in {} letters', ' written in {}', ', {}']
SPOKEN_OF = {*(n.upper() for n in COLOR_NAMES + SHAPES)}
STEP = 1 / 32  # places vary by one step of this (in half pictures), so that few different pictures have to be learnt exactly


class Scenes:
    """styles: shares of plain and loose captions (the rest is varied). held=False: nothing held out occurs (training); held=True: every shape
    triple and word is a held-out one. cases: shares of the ways to write a word. uncolored: UNCOLORED_SHARE, nothing where held is True."""

    def __init__(self, seed, held=False, styles=(.27, .45), cases=None, uncolored=None):
        self.r = random.Random(seed)
        self.held, self.styles = held, styles
        self.cases, self.lengths = cases or (HELD_CASES if held else CASES), HELD_LENGTHS if held else LENGTHS
        self.say, self.elsewhere = Phrases(self.r, wide=not held), Outside(self.r)
        self.free, self.freely = Loose(self.r, self.say), False
        self.uncolored = uncolored if uncolored is not None else 0 if held else UNCOLORED_SHARE

    # ---- choices
    def choose(self, shares):
        return self.r.choices(list(shares), list(shares.values()))[0]

    def color_but(self, *others):
        while True:
            c = self.r.randrange(12)
            if c not in others:
                return c

    def shape_on(self, background, *other_colors):
        while True:
            s, c = self.r.randrange(len(SHAPES)), self.color_but(background, *other_colors)
            if bool(HELD_TRIPLE[s, c, background]) == self.held:
                return s, c

    def shape_in(self, color, among=range(len(SHAPES))):
        """A shape for a colour that the caption leaves out"""
        return self.r.choice([s for s in among if bool(HELD_TRIPLE[s, color, self.background]) == self.held] or among)

    def colored(self, shape, color):
        """A shape and its colour as they are drawn, and the colour that the caption names: None where it leaves it out"""
        if not self.leaves_out:
            return shape, color, color
        ink = contrast(self.background)
        return self.shape_in(ink), ink, None

    def text(self, shortest=1, longest=MAX_LETTERS, cases=None, known=.45, everyday=0):
        """A word, as it is written: a known one (that share; everyday: of these, from that list) or random letters"""
        r = self.r
        while True:
            case = self.choose(cases or self.cases)
            if r.random() < known:
                word = r.choice(EVERYDAY).upper() if everyday and r.random() < everyday else r.choice(WORDS)
            elif case != 'upper' or r.random() < .85:
                n = r.choices(range(1, MAX_LETTERS + 1), self.lengths)[0]
                word = ''.join(r.choice(CAPITALS if r.random() < .8 else CAPITALS + DIGITS) for _ in range(n))
            else:
                word = ''.join(r.choice(DIGITS) for _ in range(r.randint(1, 6)))
            if shortest <= len(word) <= longest and is_held_word(word) == self.held:
                return self.cased(word, case)

    def cased(self, word, case):
        if case == 'mixed':
            return ''.join(x.lower() if self.r.random() < .5 else x for x in word)
        return word.lower() if case == 'lower' else word.capitalize() if case == 'capital' else word

    def jitter(self):
        return STEP * self.r.choices((-1, 0, 1), (.2, .6, .2))[0]

    def stretch(self):
        return self.r.choices((.95, 1., 1.05), (.2, .6, .2))[0]

    # ---- the row
    def put_shape(self, slot, shape, color, pattern, x, y, radius):
        at = SHAPE_AT[slot]
        self.row[at:at + 6] = shape, color, pattern, x, y, radius
        return dict(shape=SHAPES[shape], color=COLOR_NAMES[color], pattern=PATTERNS[pattern])

    def put_word(self, slot, text, color, x, y, width):
        at = WORD_AT[slot]
        self.row[at:at + 5] = len(text), color, x, y, width
        self.row[at + 5:at + 5 + len(text)] = [GLYPHS.index(x) for x in text]
        return dict(text=text, color=COLOR_NAMES[color])

    # ---- scenes
    def next(self, size=0, kind=None):
        """One scene for picture size number `size`: caption, row, truth"""
        self.size, (width, height) = size, PICTURE_SIZES[size]
        shorter = min(width, height)
        self.ax, self.ay = width / shorter, height / shorter
        x = self.r.random()
        self.say.style = 'plain' if x < self.styles[0] else 'loose' if x < sum(self.styles) else 'varied'
        self.freely = self.say.style == 'loose' and self.r.random() < FREE_SHARE
        self.free.starts_with_text = self.free.ends_with_text = False
        self.row = np.zeros(ROW, np.float32)
        self.row[list(SHAPE_AT)] = -1
        self.background = self.r.randrange(12) if self.held or self.r.random() < .80 else COLOR['white']
        self.truth = dict(shapes=[], words=[])
        kind = kind or self.choose(HELD_KINDS if self.held else KINDS)
        self.leaves_out = bool(self.uncolored) and self.say.style != 'plain' and self.r.random() < self.uncolored
        if self.leaves_out and self.r.random() < .6:
            self.background = COLOR['white']
        self.brief = not self.held and kind in ('one', 'two') and self.r.random() < LOUD_SHARE
        if self.brief:
            self.be_brief()
        if self.held and kind in ('one', 'two', 'both'):
            while not HELD_TRIPLE[:, :, self.background].any():
                self.background = self.r.randrange(12)
        caption = getattr(self, kind)()
        if self.brief and len(caption) <= LONGEST_LOUD:
            caption = self.free.loud(caption)
        elif kind != 'outside':
            caption = self.free.finish(caption, kind in ('one', 'two')) if self.freely else self.say.finish(caption)
        self.row[0] = self.background
        self.truth.update(caption=caption, background=COLOR_NAMES[self.background], width=width, height=height, kind=kind)
        return caption, self.row, self.truth

    def be_brief(self):
        """As those who type in capitals are: most say nothing of the background"""
        self.say.style = self.r.choice(('plain', 'varied', 'varied', 'loose'))
        self.freely = self.say.style == 'loose' and self.r.random() < .5
        if self.r.random() < .8:
            self.background = COLOR['white']
            self.say.style = 'varied' if self.say.style == 'plain' else self.say.style

    def ground(self, caption, default):
        """Names the background; when it is the default one, often leaves it out"""
        if not self.freely:
            return self.say.on_background(caption, self.background, default)
        if self.background == default and self.r.random() < .8:
            return caption
        return self.free.on_background(caption, self.background)

    def place_one(self, shape, color, pattern=0, size=0, position=0):
        (px, py), shift = POSITION_XY[position], SIZE_SHIFT[size]
        x, y = px * (shift * self.ax + (self.ax - 1) * .1), py * (shift * self.ay + (self.ay - 1) * .1)
        shown = self.put_shape(0, shape, color, pattern, x + self.jitter(), y + self.jitter(), SIZE_RADIUS[size] * self.stretch())
        self.truth['shapes'] = [dict(shown, size=SIZES[size], position=POSITIONS[position])]

    def one(self):
        r, say = self.r, self.say
        shape, color = self.shape_on(self.background)
        pattern, size = r.randrange(1, 4) if r.random() < .33 else 0, r.choice((0, 0, 1, 2))
        if pattern and not self.held and r.random() < .2:
            size = 1  # the hardest to draw
        position = 0 if r.random() < .4 else r.randrange(9)
        if self.brief and r.random() < .5:
            pattern, size, position = 0, r.choice((0, size)), 0
        shape, color, named = self.colored(shape, color)
        self.place_one(shape, color, pattern, size, position)
        if self.freely:
            return self.named_background(self.free.one(shape, named, pattern, size, position), named)
        caption = say.a(say.noun(shape, named, pattern, size))
        if position or r.random() < .15:
            caption += (' ' if say.style == 'plain' or r.random() < .85 else ', ') + say.pick(POSITIONS[position], POSITION_WORDS[position])
        return self.named_background(caption, named)

    def two(self):
        r, say = self.r, self.say
        if say.style != 'plain' and not self.held and r.random() < .15:
            return self.pair()
        shape1, color1 = self.shape_on(self.background)
        relation = r.randrange(5)
        for _ in range(200):
            shape2, color2 = self.shape_on(self.background, color1)
            if relation != INSIDE or shape2 in ROOMY or not self.held:
                break
        else:
            return self.two()
        first, second = (shape1, color1), (shape2, color2)
        if self.leaves_out:
            first, second, color1, color2 = self.two_uncolored(first, second, relation)
        elif relation == INSIDE and self.leaves_out_inside():
            first, second, color1, color2 = self.two_uncolored(first, second, relation, 'first')
        patterns = self.two_patterns(second[0], relation)
        noun1, noun2 = say.noun(first[0], color1, patterns[0]), say.noun(second[0], color2, patterns[1])
        self.put_two(first, second, relation, patterns)
        if self.freely:
            return self.named_background(self.free.two((first[0], color1, patterns[0]), (second[0], color2, patterns[1]), relation), color1, color2)
        a1, a2 = say.a(noun1), say.a(noun2)
        if self.in_clause():
            return self.named_background(clause(r, a1, a2, relation), color1, color2)
        caption = f'{a1} {say.pick(RELATION_WORDS[relation][0], RELATION_WORDS[relation])} {a2}'
        x = r.random()
        if say.style == 'loose' and relation == 0 and x < .75:
            caption = r.choice([f'{a1} and {a2}', f'{a1} next to {a2}', f'{a1} beside {a2}', f'{a1}, {a2}', f'{a1} and then {a2}', f'{a1} plus {a2}', f'{a1} and also {a2}', f'{a1} & {a2}'])
        elif say.style != 'plain' and x < .15:
            caption = [f'{a1} on the left and {a2} on the right', f'{a2} on the left and {a1} on the right', f'{a1} at the top and {a2} at the bottom',
                       f'{a2} at the top and {a1} at the bottom', f'{a2} with {a1} inside'][relation]
        return self.named_background(caption, color1, color2)

    def two_patterns(self, second, relation):
        """Patterns of two shapes. In and inside a narrow one there is no room to see one"""
        if self.held or self.r.random() >= PATTERNED_SHARE:
            return 0, 0
        has = self.r.choice(((1, 0), (1, 0), (0, 1), (0, 1), (1, 1)))
        first, outer = (self.r.randrange(1, len(PATTERNS)) * k for k in has)
        return (first, outer) if relation != INSIDE or second in ROOMY else (0, outer if second == RING else 0)

    def readable_on(self, color):
        """Black or white, if possible not the background's: what looks like a hole cannot be told from one"""
        choices = [c for c in (contrast(color), COLOR['black'], COLOR['white']) if c != color]
        return next((c for c in choices if c != self.background), choices[0])

    def in_clause(self):
        return not self.held and self.say.style != 'plain' and self.r.random() < CLAUSE_SHARE

    def leaves_out_inside(self):
        return not self.held and self.say.style != 'plain' and self.r.random() < UNREADABLE_SHARE

    def two_uncolored(self, first, second, relation, left_out=None):
        """Leaves out the colour of one or both: the shapes as they are drawn, and the colours that the caption names"""
        left_out, ink = left_out or self.r.choice(('first', 'first', 'second', 'both')), contrast(self.background)
        color1, color2 = first[1], second[1]
        if left_out != 'first':
            among = ROOMY if relation == INSIDE and self.held else range(len(SHAPES))
            second, color2 = (self.shape_in(ink, among), ink), None
            if color1 == ink:
                first = self.shape_on(self.background, ink)
                color1 = first[1]
        if left_out != 'second':
            shown = self.readable_on(second[1]) if relation == INSIDE and second[0] != RING else ink
            first, color1 = (self.shape_in(shown), shown), None
        return first, second, color1, color2

    def put_two(self, first, second, relation, patterns=(0, 0)):
        """The first stands in this relation to the second; slot 0 is the left or upper or outer one"""
        j, s = self.jitter, self.stretch
        if relation == INSIDE:
            shown = [self.put_shape(0, *second, patterns[1], j(), j(), (.74 if second[0] in ROOMY else .84) * s())]
            shown.append(self.put_shape(1, *first, patterns[0], *((j(), j(), .32 * s()) if second[0] in ROOMY else self.room_inside(second[0]))))
        else:
            dx, dy = [(.46 * self.ax, 0), (0, .46 * self.ay)][relation // 2]
            left, right = (*first, patterns[0]), (*second, patterns[1])
            left, right = (left, right) if relation in (0, 2) else (right, left)
            shown = [self.put_shape(0, *left, j() - dx, j() - dy, .36 * s()), self.put_shape(1, *right, j() + dx, j() + dy, .36 * s())]
        self.truth['shapes'] = [{k: x[k] for k in ('shape', 'color', 'pattern') if x[k]} for x in shown]
        self.truth['relation'] = RELATIONS[relation]

    def room_inside(self, shape):
        """Place and radius of what stands inside the first shape"""
        x, y, radius = self.row[SHAPE_AT[0] + 3:SHAPE_AT[0] + 6]
        dx, dy, share, _ = ROOM[SHAPES[shape]]
        return x + dx * radius, y + dy * radius, share * radius

    def pair(self):
        """Two of the same"""
        r, say = self.r, self.say
        shape, color, named = self.colored(*self.shape_on(self.background))
        pattern = r.randrange(1, len(PATTERNS)) if r.random() < PATTERNED_SHARE else 0
        self.put_two((shape, color), (shape, color), 0, (pattern, pattern))
        if self.freely:
            return self.named_background(self.free.pair(shape, named, pattern), named)
        count, noun = r.choice(['two', 'two', 'two', '2', 'a pair of', 'a couple of']), plural(say.pick(SHAPES[shape], SHAPE_WORDS[SHAPES[shape]]))
        tint = ('' if named is None else say.color(named) + ' ') + (say.pick(PATTERNS[pattern], PATTERN_WORDS[pattern]) + ' ' if pattern else '')
        return self.named_background(f'{count} {tint}{noun}' + r.choice(['', '', '', ' next to each other', ' side by side']), named)

    def text_color(self):
        """The colour of a text and the one that the caption names, None if it names none"""
        if self.say.style != 'plain' and self.r.random() < .13:
            return contrast(self.background), None
        color = self.color_but(self.background)
        return color, color

    def unquoted(self, count):
        """A request to write, as people type it: no quotes, small letters mostly, often no colour"""
        self.say.style, self.freely = 'loose', True
        color = named = self.color_but(self.background)
        if self.r.random() < .7:
            color, named = contrast(self.background), None
        case = {self.choose(UNQUOTED_CASES): 1}
        texts = [self.text(2, cases=case, known=.8, everyday=EVERYDAY_SHARE) for _ in range(count)]
        self.put_lines(texts, color, color) if count == 2 else self.put_line(texts[0], color)
        return self.named_background(self.free.unquoted(texts, named), named)

    def put_line(self, text, color):
        width = min(.8 if len(text) == 1 else .62, 1.78 * self.ax / len(text))
        self.truth['words'] = [self.put_word(0, text, color, self.jitter(), self.jitter(), width)]

    def put_lines(self, texts, color, other):
        width = min(.36 if DESCENDERS & set(texts[0]) else .5, 1.78 * self.ax / max(map(len, texts)))
        y, x = .38 * self.ay, self.jitter()
        self.truth['words'] = [self.put_word(0, texts[0], color, x, -y, width), self.put_word(1, texts[1], other, x, y, width)]

    def word(self):
        if not self.held and self.say.style != 'plain' and self.r.random() < UNQUOTED_SHARE:
            return self.unquoted(1)
        color, named = self.text_color()
        text = self.text(2 if self.held else 1)
        while not self.held and self.say.style == 'loose' and text in SPOKEN_OF:
            text = self.text()  # without quotes it could mean the shape
        self.put_line(text, color)
        phrase = self.free.word if self.freely else self.say.word
        return self.named_background(phrase(text, named), named)

    def both(self):
        shape, color, shape_named = self.colored(*self.shape_on(self.background))
        if self.r.random() < (.15 if self.held else .3) and (shape in ROOMY or not self.held and self.longest_inside(shape)):
            return self.word_inside(shape, color, shape_named)
        r, say = self.r, self.say
        pattern = r.randrange(1, 4) if r.random() < .1 else 0
        text_color, named = self.text_color()
        if self.leaves_out and r.random() < .3:
            text_color, named = contrast(self.background), None
        text, above = self.text(2 if self.held else 1), r.random() < .65  # above: the shape is
        side, width = 1 if above else -1, min(.42, 1.78 * self.ax / len(text))
        noun = say.a(say.noun(shape, shape_named, pattern))
        shown = self.put_shape(0, shape, color, pattern, self.jitter(), -side * (.36 * self.ay + (self.ay - 1) * .08) + self.jitter(), .42 * self.stretch())
        lift = .15 * width if DESCENDERS & set(text) else 0
        written = self.put_word(0, text, text_color, self.jitter(), side * (.56 * self.ay - (self.ay - 1) * .1) - lift, width)
        self.truth.update(shapes=[shown], words=[written])
        if self.in_clause() and not self.freely:
            return self.named_background(clause(r, say.word(text, named), noun, 2 + above, written=True), named, shape_named)
        if self.freely:
            free_noun = self.free.thing(shape, shape_named, pattern)
            return self.named_background(self.free.both(free_noun, text, named, above), named, shape_named)
        phrase = say.word(text, named)
        if say.style == 'plain' or r.random() < .4:
            caption = f'{noun} {"above" if above else "below"} {phrase}' if r.random() < .7 else f'{phrase} {"below" if above else "above"} {noun}'
        elif self.leaves_out and above and r.random() < .4:
            caption = r.choice([f'{phrase} with {noun}', f'{phrase} and {noun}', f'{phrase} with {noun} above it', f'{phrase} and {noun} above'])
        elif above:
            caption = r.choice([f'{noun} with {phrase} below it', f'{noun} with {phrase} below', f'{noun} and {phrase} below it', f'{noun} over {phrase}', f'{phrase} under {noun}',
                                f'{noun} and {phrase}', f'{noun} with {phrase}', f'{phrase} beneath {noun}', f'{noun} with {phrase} under it', f'{noun}, {phrase} below'])
        else:
            caption = r.choice([f'{noun} with {phrase} above it', f'{noun} with {phrase} above', f'{noun} under {phrase}', f'{phrase} over {noun}', f'{noun} and {phrase} above it'])
        return self.named_background(caption, named, shape_named)

    def longest_inside(self, shape):
        """Letters of the longest word that can be read inside a shape"""
        return min(MAX_LETTERS, int(ROOM[SHAPES[shape]][3] * HOLDER * min(PICTURE_SIZES[self.size]) / 2 / LEAST_LETTER))

    def word_inside(self, shape, color, shape_named):
        ring = shape == RING
        text = self.text(2, 4) if self.held else self.text(1, self.longest_inside(shape))
        text_color = self.color_but(color, self.background) if ring else self.color_but(color)
        named = text_color
        if self.leaves_out and self.r.random() < .5 or self.leaves_out_inside():
            text_color, named = contrast(self.background if ring else color), None
        hangs = DESCENDERS & set(text)
        if shape in ROOMY and len(text) <= 4:
            width = min(.36 if hangs else .42, 1.1 / len(text))
        else:
            width = min(.25 if hangs else .3, ROOM[SHAPES[shape]][3] * HOLDER / len(text))
        shown = self.put_shape(0, shape, color, 0, self.jitter(), self.jitter(), HOLDER)
        written = self.put_word(0, text, text_color, *self.room_inside(shape)[:2], width)
        self.truth.update(shapes=[shown], words=[written])
        noun, phrase = self.say.a(self.say.noun(shape, shape_named)), self.say.word(text, named)
        plain = self.say.style == 'plain' or self.r.random() < .6
        caption = f'{phrase} inside {noun}' if plain else f'{noun} with {phrase} inside'
        if not self.held and not plain:
            caption = clause(self.r, phrase, noun, INSIDE, written=True) if self.in_clause() else self.r.choice(HELD_WORDS).format(noun, phrase)
        return self.named_background(caption, named, shape_named)

    def lines(self):
        r, say = self.r, self.say
        if not self.held and say.style != 'plain' and r.random() < TWO_UNQUOTED_SHARE:
            return self.unquoted(2)
        if not self.held and r.random() < ONE_QUOTE_SHARE:
            return self.in_one_quote()
        color, named = self.text_color()
        first, second = self.text(2), self.text(2)
        while not self.held and say.style == 'loose' and first in SPOKEN_OF and second in SPOKEN_OF:
            second = self.text(2)  # without quotes they could mean the shape
        other = self.color_but(self.background) if named is not None and r.random() < .3 else color
        self.put_lines((first, second), color, other)
        if other != color:
            return self.named_background(f'{say.word(first, color)} above {say.word(second, other)}', color, other)
        if self.freely:
            return self.named_background(self.free.lines(first, second, named), named)
        q1, q2, tint = say.quoted(first), say.quoted(second), '' if named is None else f' in {say.color(color)}'
        if say.style == 'plain' or r.random() < .35:
            caption = f'the words {q1} and {q2}{tint}'
        elif say.style == 'loose':
            q = f'"{first} {second}"'
            choices = [f'{q}{tint}', f'write {q}{tint}', f'the text {q}{tint}', f'the words {q}{tint}', f'a sign that says {q}{tint}', f'write {first} {second}{tint}', f'the text {first} {second}{tint}',
                       f'the words {first} and {second}{tint}']
            caption = r.choice(choices + ([f'{first} {second}{tint}'] if first.isupper() and second.isupper() else []))
        else:
            caption = r.choice([f'the words {q1} {q2}{tint}', f'the text {q1} {q2}{tint} on two lines', f'the word {q1} above the word {q2}{tint}', f'two lines of text, {q1} and {q2}{tint}',
                                f'the words {q1} and {q2}{tint} on two lines', f'the text {q1} and {q2}{tint}'])
        return self.named_background(caption, named)

    def in_one_quote(self):
        """Two words in one pair of quotes"""
        r, say = self.r, self.say
        color, named = self.text_color()
        case = {self.choose(UNQUOTED_CASES): 1}
        texts = [self.text(2, cases=case, known=.7, everyday=EVERYDAY_SHARE) for _ in range(2)]
        self.put_lines(texts, color, color)
        form = ONE_QUOTE[0] if say.style == 'plain' else r.choice(ONE_QUOTE)
        q, tint = say.quoted_always(' '.join(texts)), '' if named is None else r.choice(TINTS[:1] if say.style == 'plain' else TINTS).format(say.color(named))
        return self.named_background(form.format(q) + tint, named)

    def named_background(self, caption, *named):
        """named: the colours that the caption names, None for one that it leaves out. What has no colour takes it from the background, which is
        then named unless it is a light default"""
        default = plain_background(*named)
        return self.ground(caption, default if None not in named or default in LIGHT else -1)

    def outside(self):
        r, say = self.r, self.say
        say.style, x, named_background = 'varied', r.random(), False
        self.background = COLOR['white']
        if x < .10:
            text = self.text(2)
            width = min(.62, 1.78 * self.ax / len(text))
            self.truth['words'] = [self.put_word(0, text, COLOR['black'], self.jitter(), self.jitter(), width)]
            return self.elsewhere.saying(text)
        color = r.randrange(12) if r.random() < (.35 if x < .75 else .75) else None
        shown = COLOR['black'] if color is None else color
        self.background = plain_background(shown)
        if r.random() < .12:
            self.background, named_background = self.color_but(shown), True
        if x < .75:
            self.place_one(EMBLEM, shown)
            caption = self.elsewhere.sentence(COLOR_NAMES[color] if color is not None else None)
        else:
            shape = r.randrange(len(SHAPES))
            if HELD_TRIPLE[shape, shown, self.background]:
                return self.outside()
            self.place_one(shape, shown)
            caption = self.elsewhere.around(say.a(say.noun(shape, color)))
            if color is not None and r.random() < .25:
                caption = self.two_elsewhere(shape, color)
        if r.random() < .15:
            caption = caption[0].upper() + caption[1:]
        caption += '.' if r.random() < .1 else ''
        return say.on_background(caption, self.background, -1) if named_background else caption

    def two_elsewhere(self, shape, color):
        """Two shapes in a sentence about something else"""
        say, (shape2, color2) = self.say, self.shape_on(self.background, color)
        self.put_two((shape, color), (shape2, color2), 0)
        pair = f'{say.a(say.noun(shape, color))} {self.r.choice(["and", "and", "next to"])} {say.a(say.noun(shape2, color2))}'
        return self.elsewhere.around(pair)


assert SMALL[-1] == GLYPHS[-1]
