"""The words of captions: plain, varied and loose, as people write them."""
from world import COLOR_NAMES, COLOR_WORDS, LIGHT, MORE_COLOR_WORDS, MORE_SIZE_WORDS, PATTERN_AFTER, PATTERN_WORDS, PATTERNS, SHAPES, SHAPE_WORDS, SIZES, SIZE_WORDS

QUOTES = '"\'\u201c'
LOOSE_STARTS = ['draw ', 'draw me ', 'can you draw ', 'could you draw ', 'please draw ', 'i want ', 'i would like ', 'give me ', 'make me ', 'show me ', 'just ', 'there is ',
                'paint ', 'make ', 'create ', 'generate ', 'a picture with ', 'an image with ', 'i need ', 'we see ', 'let me see ', 'only ']
LOOSE_WISHES = ['', '', '', '', ' please', ', please', '?', '!', '.', ' thanks', ' for me']
FLATTERY = ['nice', 'simple', 'cute', 'perfect', 'beautiful', 'lovely', 'plain', 'clean', 'pretty', 'good', 'single']
SHADES = ['bright', 'dark', 'light', 'deep', 'pale', 'vivid']
VERY = ['very', 'really', 'quite', 'super']
DIGITS_SAID = ['number', 'number', 'digits', 'digits', 'numerals', 'figures', 'digit sequence']
UNUSUAL_PLURALS = {'box': 'boxes', 'cross': 'crosses', 'plus': 'pluses', 'rhombus': 'rhombuses'}


def article(word):
    return 'an' if word[0].lower() in 'aeiou' else 'a'


def plural(noun):
    head, _, last = noun.rpartition(' ')
    return (head + ' ' if head else '') + UNUSUAL_PLURALS.get(last, last + 's')


class Phrases:
    """Picks words; `style` is 'plain', 'varied' or 'loose'. wide: also those that came after the lists were made, of which none may change"""

    def __init__(self, random, wide=False):
        self.r, self.style, self.wide = random, 'plain', wide

    def chance(self, p):
        return self.r.random() < p

    def pick(self, usual, others):
        return usual if self.style == 'plain' or self.chance(.5) else self.r.choice(others)

    def color(self, c):
        name = self.pick(COLOR_NAMES[c], COLOR_WORDS.get(COLOR_NAMES[c], [COLOR_NAMES[c]]))
        if self.wide and self.style == 'loose' and COLOR_NAMES[c] in MORE_COLOR_WORDS and self.chance(.06):
            return self.r.choice(MORE_COLOR_WORDS[COLOR_NAMES[c]])
        return f'{self.r.choice(SHADES)} {name}' if self.style == 'loose' and self.chance(.08) else name

    def size(self, size):
        if self.wide and size and self.style != 'plain' and self.chance(.2):
            return self.r.choice(MORE_SIZE_WORDS[size])
        return self.pick(SIZES[size], SIZE_WORDS[size])

    def noun(self, shape, color, pattern=0, size=0):
        """'large striped blue star', without an article; color None leaves the colour out"""
        size_word, pattern_word = self.size(size), self.pick(PATTERNS[pattern], PATTERN_WORDS[pattern])
        shape_word, after = self.pick(SHAPES[shape], SHAPE_WORDS[SHAPES[shape]]), ''
        if pattern and self.style != 'plain' and self.chance(.15):
            pattern_word, after = '', PATTERN_AFTER[pattern]
        color_word = self.color(color) if color is not None else ''
        if self.style == 'loose':
            if size and self.chance(.1):
                size_word = f'{self.r.choice(VERY)} {size_word}'
            if self.chance(.08):
                size_word = f'{self.r.choice(FLATTERY)} {size_word}'.strip()
            if color is not None and not pattern and self.chance(.12):
                return self._turned(size_word, color_word, shape_word)
        words = [size_word, pattern_word, color_word] if self.style == 'plain' or self.chance(.8) else [size_word, color_word, pattern_word]
        return ' '.join(x for x in words + [shape_word] if x) + after

    def _turned(self, size, color, shape):
        shape = f'{size} {shape}'.strip()
        if self.wide and self.chance(.25):
            return self.r.choice([f'{shape} coloured {color}', f'{shape} coloured in {color}', f'{shape} tinted {color}', f'{color}-colored {shape}'])
        return self.r.choice([f'{shape} in {color}', f'{shape}, {color}', f'{shape} that is {color}', f'{shape} ({color})', f'{shape} {color}', f'{shape} colored {color}'])

    def a(self, noun):
        """The noun with an article, or whatever people put there"""
        if self.style == 'plain':
            return f'{article(noun)} {noun}'
        x, bare = self.r.random(), .5 if self.style == 'loose' else .12
        if x < bare:
            return noun
        return f'the {noun}' if x < bare + .05 else f'one {noun}' if x < bare + .08 else f'a {noun}' if x < bare + .11 else f'{article(noun)} {noun}'

    def quoted(self, word):
        if self.style != 'plain':
            x = self.r.random()
            if x < .10:
                return word
            if x < .18:
                return f"'{word}'"
            if x < .22:
                return f'\u201c{word}\u201d'
        return f'"{word}"'

    def quoted_always(self, text):
        return self.r.choice(('"{}"', '"{}"', '"{}"', "'{}'", '\u201c{}\u201d')).format(text)

    def word(self, text, color):
        """The phrase for a word; color None leaves the colour out"""
        if self.style == 'loose':
            return self._loose_word(text, color)
        q, c, kind = self.quoted(text), self.color(color) if color is not None else None, 'word'
        if len(text) == 1:
            kind = 'digit' if text.isdigit() else 'letter'
        elif text.isdigit() and (self.style == 'plain' or self.chance(.5)):
            kind = self.r.choice(DIGITS_SAID) if self.wide else 'number'
        in_quotes = q[0] in QUOTES
        if c is None:
            return self.r.choice([f'the {kind} {q}', f'the text {q}', q if in_quotes else f'the word {q}', f'a sign that says {q}'])
        if self.style == 'plain' or self.chance(.5):
            return f'the {kind} {q} in {c}'
        choices = [f'the {kind} {q} written in {c}', f'the text {q} in {c}', f'the {c} {kind} {q}', f'{c} text {q}', f'text saying {q} in {c}', f'a sign that says {q} in {c}',
                   f'{c} {kind} {q}', f'the {kind} {q} in {c} color']
        if in_quotes:
            choices += [f'{q} in {c}', f'{q} in {c} letters', f'{q} written in {c}', f'{c} {q}']
        return self.r.choice(choices)

    def _loose_word(self, text, color):
        bare = self.chance(.5)  # no quotes: then capitals, or a word that says that text follows
        q = text if bare else self.quoted(text)
        cued = bare and not (len(text) > 1 and text.isupper())
        if color is None:
            choices = [f'write {q}', f'say {q}', f'the word {q}', f'a sign with the text {q}', f'text {q}', f'a poster that says {q}', f'the text {q} in big letters', f'spell {q}',
                       f'print {q}', f'type {q}', f'a logo with the word {q}', f'a label saying {q}']
            return self.r.choice(choices if cued else choices + [q, f'{q} in big letters', f'a sign with {q}', f'letters {q}'] + [q] * 3)
        c = self.color(color)
        choices = [f'write {q} in {c}', f'the word {q} {c}', f'say {q} in {c}', f'text {q} {c}', f'the text {q} in {c} letters', f'the word {q} in big {c} letters', f'{c} word {q}',
                   f'write {q} in big {c} letters', f'spell {q} in {c}', f'a sign that says {q} in {c}', f'print {q} in {c}', f'the word {q}, {c}']
        if not cued:
            choices += [f'{q} in {c}', f'{q} in big {c} letters', f'{q} in {c} letters', f'{c} {q}', f'big {c} {q}', f'{q} {c}', f'{q}, {c}', f'{c} letters {q}', f'{q} written in {c}']
        return self.r.choice(choices)

    def on_background(self, caption, background, default):
        """Names the background; when it is the default one, often leaves it out"""
        b = self.color(background)
        if self.style == 'plain':
            return f'{caption} on {article(b)} {b} background'
        if background == default and self.chance(.8 if self.style == 'loose' else .5):
            return caption
        if self.style == 'loose':
            return self.r.choice([f'{caption} on {b}', f'{caption}, {b} background', f'{caption} {b} background', f'{caption} with {b} background', f'{caption}, background {b}',
                                  f'{caption} on {b} background', f'{b} background, {caption}', f'{caption}, on {b}', f'{caption} and the background is {b}', f'{caption} on {b} please',
                                  f'{b} background with {caption}', f'{caption} in front of {b}', f'{caption}, {b} behind it', f'{caption}. make the background {b}'])
        if self.chance(.35):
            return f'{caption} on {article(b)} {b} background'
        return self.r.choice([f'{caption} on {b} background', f'{caption} on {b}', f'{caption}, {b} background', f'{caption} with {article(b)} {b} background',
                              f'{caption} against {article(b)} {b} background', f'{caption} on a plain {b} background', f'{caption} over {article(b)} {b} background',
                              f'{caption}. The background is {b}', f'{caption} on a solid {b} background', f'{b} background, {caption}', f'on {article(b)} {b} background, {caption}',
                              f'{caption}, on {b}', f'{caption} and {article(b)} {b} background', f'{caption} on a {b} background'])

    def finish(self, caption):
        r = self.r
        if self.style == 'plain':
            return caption
        if self.style == 'loose':
            if self.chance(.4):
                caption = r.choice(LOOSE_STARTS) + caption
            caption += r.choice(LOOSE_WISHES) if self.chance(.5) else ''
        elif self.chance(.12):
            caption = r.choice(['a picture of ', 'an image of ', 'a drawing of ', 'draw ', 'a photo of ', 'show ', 'make ', 'an illustration of ', 'an icon of ', 'generate ', 'please draw ']) + caption
        if self.chance(.18):
            caption = caption[0].upper() + caption[1:]
        x = r.random()
        if self.style == 'varied' and x < .12:
            caption += '.'
        elif x < .15:
            caption += r.choice([', Ultra HD, 4K, cinematic composition.', ', flat design', ', minimalist', ', simple', ', high quality', ', sharp', '!'])
        return caption


def contrast(background):
    """Index of the colour that text takes when none is named"""
    return COLOR_NAMES.index('black' if background in LIGHT else 'white')
