"""What a picture should show, as class numbers, and how far what was read agrees."""
import numpy as np

from world import CAPITALS, COLOR, GLYPHS, MAX_LETTERS, NO_GLYPH, NO_SHAPE, PATTERNS, POSITIONS, SHAPES, SIZES, SMALL

# background | 2 x (shape, colour, pattern) | position | size | 2 x (colour of the word, MAX_LETTERS glyphs)
SHAPE_TARGET, POSITION_TARGET, SIZE_TARGET, WORD_TARGET = (1, 4), 7, 8, (9, 10 + MAX_LETTERS)
TARGETS = 9 + 2 * (1 + MAX_LETTERS)
_SHAPE_CLASSES = [NO_SHAPE + 1, 12, 4]
CLASSES = [12] + 2 * _SHAPE_CLASSES + [9, 3] + 2 * ([12] + [NO_GLYPH + 1] * MAX_LETTERS)
NAMES = ['background', 'shape1', 'color1', 'pattern1', 'shape2', 'color2', 'pattern2', 'position', 'size']
NAMES += [f'word{i}_{x}' for i in (1, 2) for x in ['color'] + [f'letter{k + 1}' for k in range(MAX_LETTERS)]]
NOT_ASKED = -1


def target(truth):
    """One row of class numbers; NOT_ASKED where the caption leaves it open"""
    row = np.full(TARGETS, NOT_ASKED, np.int64)
    row[0] = COLOR[truth['background']]
    for at, s in zip(SHAPE_TARGET, truth['shapes'] + [None] * 2):
        if s is None:
            row[at] = NO_SHAPE
            continue
        row[at:at + 3] = SHAPES.index(s['shape']), COLOR[s['color']], PATTERNS.index(s.get('pattern', ''))
        if 'position' in s:
            row[POSITION_TARGET], row[SIZE_TARGET] = POSITIONS.index(s['position']), SIZES.index(s['size'])
    for at, w in zip(WORD_TARGET, truth['words'] + [None] * 2):
        row[at + 1:at + 1 + MAX_LETTERS] = NO_GLYPH
        if w is not None:
            row[at], row[at + 1:at + 1 + len(w['text'])] = COLOR[w['color']], [GLYPHS.index(x) for x in w['text']]
    return row


def without_case(rows):
    """Small letters read as capitals"""
    table = np.arange(NO_GLYPH + 1)
    for c in SMALL:
        table[GLYPHS.index(c)] = CAPITALS.index(c.upper())
    rows = rows.copy()
    for at in WORD_TARGET:
        letters = rows[:, at + 1:at + 1 + MAX_LETTERS]
        rows[:, at + 1:at + 1 + MAX_LETTERS] = np.where(letters >= 0, table[letters.clip(min=0)], letters)
    return rows


def _rate(right, asked):
    return round(float(right[asked].mean()), 4) if asked.any() else None


def score(read, truths, ignore_case=False):
    """read: (n, TARGETS) class numbers -> shares of what is right"""
    wanted = np.stack([target(t) for t in truths])
    if ignore_case:
        read, wanted = without_case(read), without_case(wanted)
    right, asked = read == wanted, wanted != NOT_ASKED
    shown = np.concatenate([wanted[:, a] < NO_SHAPE for a in SHAPE_TARGET])
    both = np.concatenate
    report = {'pictures': len(truths), 'background': _rate(right[:, 0], asked[:, 0])}
    report['shape'] = _rate(both([right[:, a] for a in SHAPE_TARGET]), shown)
    report['shape_color'] = _rate(both([right[:, a + 1] for a in SHAPE_TARGET]), shown)
    report['pattern_asked'] = _rate(right[:, 3], wanted[:, 3] > 0)
    report['position'] = _rate(right[:, POSITION_TARGET], asked[:, POSITION_TARGET])
    report['size'] = _rate(right[:, SIZE_TARGET], asked[:, SIZE_TARGET])
    letters = [slice(a + 1, a + 1 + MAX_LETTERS) for a in WORD_TARGET]
    written = [wanted[:, s] < NO_GLYPH for s in letters]
    report['word_color'] = _rate(both([right[:, a] for a in WORD_TARGET]), both([asked[:, a] for a in WORD_TARGET]))
    report['letters'] = _rate(both([right[:, s] for s in letters]), both(written))
    report['words'] = _rate(both([right[:, s].all(1) for s in letters]), both([w.any(1) for w in written]))
    report['letters_asked'], report['words_asked'] = int(both(written).sum()), int(both([w.any(1) for w in written]).sum())
    report['everything'] = round(float(np.where(asked, right, True).all(1).mean()), 4)
    return report


def faults(read, truth):
    """Names of what is wrong in one picture"""
    wanted = target(truth)
    return [n for n, w, r in zip(NAMES, wanted, read) if w not in (NOT_ASKED, r)]
