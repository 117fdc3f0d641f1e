"""Writes the lists of captions that training never saw, with what each picture should show.

    python captions.py WORLD.json OUT_DIR          the lists that figures are given of
    python captions.py validation OUT_DIR          others of the same kinds, to choose between trainings by
    python captions.py later OUT_DIR               three by hand, two written after version 7 was trained and one before version 8 was

world.json: the 200 of version 1 (WORLD.json gives them), words as they are written; case.json: 100 with words in small, capital and mixed letters; loose.json:
50 as people write them (loose.txt); outside.json: 100 about other things (outside.txt); large.json: 60 in 384x384; two.json: 60 naming two shapes, many of
them loosely; uncolored.json: 40 that leave out the colour of a shape (uncolored.txt); loose_unseen.json, outside_unseen.json: as loose and outside, but
in no form that the generator writes (unseen.py). loose_later.json: 40 more loose sentences; combined.json: 50 with patterns on two shapes, something inside
each kind of shape, and words without quotes; later8.json: 52 of the kinds that version 8 was taught; to be judged by eye: the checker was not trained on these. All shape triples and words of world, case, two and large
are held out of training; the others were written by hand.
A line of loose.txt is CAPTION | BACKGROUND | SHAPE COLOUR [PATTERN|SIZE|_]... [POSITION NUMBER], ... | WORD COLOUR; of outside.txt CAPTION | SHAPE COLOUR | WORD."""
import json
import os
import re
import sys

from phrases import contrast
from scenes import Scenes
from world import COLOR, COLOR_NAMES, PATTERNS, POSITIONS, SIZES, plain_background, size_of_index

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {'lower': .6, 'capital': .22, 'mixed': .18}
WORD_KINDS, LARGE_KINDS = ('word', 'both', 'word', 'lines', 'word'), ('word', 'both', 'one', 'word', 'two', 'lines')


def as_written(truth):
    """Version 1 drew every word in capitals; its captions are kept, the words taken from them"""
    for w in truth['words']:
        w['text'] = re.search(re.escape(w['text']), truth['caption'], re.IGNORECASE).group(0)
    return truth


def looks_like_a_hole(truth):
    """A shape of the background's colour inside another one, which the checker was not trained on"""
    return any(s['color'] == truth['background'] for s in truth['shapes'])


def generated(count, seed, kinds, sizes, cases, styles=(.6, 0), uncolored=0):
    scenes, found = Scenes(seed, held=True, styles=styles, cases=cases, uncolored=uncolored), {}
    while len(found) < count:
        i = len(found)
        _, _, truth = scenes.next(sizes(i), kinds[i % len(kinds)])
        if len(truth['caption']) < 120 and not looks_like_a_hole(truth):
            found.setdefault(truth['caption'], dict(truth, index=i))
    return sorted(found.values(), key=lambda t: t['index'])


def shapes_of(text, alone):
    shapes = []
    for part in filter(None, (p.split() for p in text.split(','))):
        shape = dict(shape=part[0], color=part[1], pattern=next((x for x in part if x in PATTERNS), ''))
        if alone and ',' not in text:
            shape.update(size=next((x for x in part if x in SIZES), ''), position=POSITIONS[int(part[-1]) if part[-1].isdigit() else 0])
        shapes.append(shape)
    return shapes


def by_hand(file):
    truths = []
    for i, line in enumerate(open(os.path.join(HERE, file), encoding='utf8')):
        caption, *fields = [x.strip() for x in line.split('|')]
        outside = file.startswith('outside')
        if outside:
            fields = ['white', *(fields or ['drop black'])]
        background, shapes, words, *_ = fields + [''] * 3
        words = [dict(text=w.split()[0], color=(w.split() + ['auto'])[1]) for w in words.split(',') if w]
        for w in words:
            w['color'] = COLOR_NAMES[contrast(COLOR[background])] if w['color'] == 'auto' else w['color']
        truth = dict(index=i, caption=caption, background=background, shapes=shapes_of(shapes, not words), words=words, width=256, height=256)
        if outside and shapes:
            truth['background'] = COLOR_NAMES[plain_background(*[COLOR[s['color']] for s in truth['shapes']])]
        truths.append(truth)
    return truths


def test_lists(version1):
    return {'world': [as_written(t) for t in json.load(open(version1))],
            'case': generated(100, 20261125, WORD_KINDS, size_of_index, CASES),
            'loose': by_hand('loose.txt'), 'outside': by_hand('outside.txt'), 'uncolored': by_hand('uncolored.txt'),
            'loose_unseen': by_hand('loose_unseen.txt'), 'outside_unseen': by_hand('outside_unseen.txt'),
            'two': generated(60, 222, ('two',), size_of_index, None, (.4, .4)),
            'large': generated(60, 384, LARGE_KINDS, lambda i: 3, {'upper': .6, 'lower': .4})}


def validation_lists():
    return {'world': generated(200, 4001, ('one', 'two', 'word', 'both', 'one', 'word'), size_of_index, {'upper': 1.}, (1, 0)),
            'case': generated(300, 4002, WORD_KINDS, size_of_index, CASES), 'two': generated(100, 4003, ('two',), size_of_index, None, (.4, .4)),
            'large': generated(60, 4004, LARGE_KINDS, lambda i: 3, {'upper': .6, 'lower': .4}),
            'uncolored': generated(150, 4005, ('both', 'two', 'one', 'both', 'two'), size_of_index, None, (0, .5), 1),
            'loose': by_hand('loose_validation.txt'), 'outside': by_hand('outside_validation.txt')}


def later_lists():
    return {name: by_hand(name + '.txt') for name in ('loose_later', 'combined', 'later8')}


def main(which, out):
    made = dict(validation=validation_lists, later=later_lists)
    lists = made[which]() if which in made else test_lists(which)
    os.makedirs(out, exist_ok=True)
    for name, truths in lists.items():
        with open(f'{out}/{name}.json', 'w', encoding='utf8') as file:
            file.write('[' + ',\n'.join(json.dumps(t, ensure_ascii=False, separators=(',', ':')) for t in truths) + ']\n')
        print(name, len(truths))


if __name__ == '__main__':
    main(*sys.argv[1:])
