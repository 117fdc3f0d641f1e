"""How even drawn outlines are: the mean distance in pixels between the drawn and the true edge.

    python outline.py CAPTIONS.json PNG_DIR [--version1]
    python outline.py large PROGRAM MODEL_DIR OUT_DIR

For every picture whose truth is one shape without pattern or words: the shape's cover is read from the colours, its place and size are fitted to the renderer's
own signed distances, and the distance of every drawn edge point (cover 0.5, between two pixels) from the true edge is averaged.
--version1: version 1's heart, which followed another curve, is left out. large: draws large blue shapes with the built `inkstone` and measures these; beside
them, for the eye, six striped stars and six checkered hexagons."""
import json
import os
import sys

import numpy as np
import torch

from checker import read_pictures
from engine import generate
from render import shape_distances
from world import COLOR, RGB, SHAPES

LARGE = dict(circle=range(6), hexagon=range(6, 12), heart=range(3), ring=range(3), star=range(3), drop=range(3))  # seeds
PATTERNED = dict(stripes='a large striped blue star on a yellow background', checks='a checkered brown hexagon at the bottom on a pink background')
GOAL = .8  # pixels
SPANS = (.02, .005, .00125)  # of the search around the best place and size so far, in half pictures


def edge_points(cover):
    """(n, 2) places x, y where the cover crosses 0.5 between neighbouring pixels, in pixels"""
    points = []
    for axis in (0, 1):
        a, b = (cover[:-1], cover[1:]) if axis == 0 else (cover[:, :-1], cover[:, 1:])
        y, x = np.nonzero((a > .5) != (b > .5))
        along = (.5 - a[y, x]) / (b[y, x] - a[y, x])
        points.append(np.stack([x + (along if axis else 0), y + (0 if axis else along)], 1))
    return np.concatenate(points) + .5


def distances(shape, points, place):
    """Signed, in the points' unit; place: x, y, radius"""
    u = torch.tensor((points - place[:2]) / place[2])
    return (shape_distances(u[:, 0], u[:, 1])[shape] * place[2]).numpy()


def fitted(shape, points):
    """The mean distance at the best place and size"""
    low, high = points.min(0), points.max(0)
    best = np.array([*(low + high) / 2, (high - low).max() / 2])
    cost = np.abs(distances(shape, points, best)).mean()
    for span in np.array(SPANS) * 128:
        for _ in range(40):
            moves = [best + span * np.array(d) for d in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1))]
            costs = [np.abs(distances(shape, points, m)).mean() for m in moves]
            if min(costs) >= cost:
                break
            best, cost = moves[int(np.argmin(costs))], min(costs)
    return cost


def measure(picture, truth):
    """Mean distance of one picture (3, H, W); None when there is hardly an edge"""
    [shape] = truth['shapes']
    ground, color = RGB[COLOR[truth['background']]], RGB[COLOR[shape['color']]]
    cover = (picture.permute(1, 2, 0).numpy() - ground) @ (color - ground) / ((color - ground) @ (color - ground))
    points = edge_points(cover)
    return fitted(SHAPES.index(shape['shape']), points) if len(points) > 20 else None


def suits(truth):
    return len(truth['shapes']) == 1 and not truth['words'] and not truth['shapes'][0].get('pattern')


def by_shape(truths, pictures, skipped=()):
    measured = {}
    for truth, picture in zip(truths, pictures):
        shape, distance = truth['shapes'][0]['shape'], measure(picture, truth)
        if shape not in skipped and distance is not None:
            measured.setdefault(shape, []).append(distance)
    return measured


def summary(distances):
    return f'mean {np.mean(distances):.2f} px, deviation {np.std(distances):.2f}, median {np.median(distances):.2f}, worst {max(distances):.2f}, {len(distances)} shapes'


def main(captions, folder, *options):
    with open(captions, encoding='utf8') as file:
        truths = [t for t in json.load(file) if suits(t)]
    measured = by_shape(*read_pictures(truths, folder), {'heart'} if '--version1' in options else ())
    print(json.dumps({k: round(float(np.mean(v)), 2) for k, v in sorted(measured.items())}))
    everything = np.concatenate(list(measured.values()))
    print(summary(everything), f'{(everything < GOAL).sum()} below {GOAL}')


def draw_large(program, model, out):
    def draw(caption, seed, folder):
        os.makedirs(folder, exist_ok=True)
        generate(program, model, dict(caption=caption, width=256, height=256, index=seed), '20', '4', f'{folder}/{seed:03d}.png')

    for shape, seeds in LARGE.items():
        caption, folder = f'a large blue {shape} on a white background', f'{out}/{shape}'
        truths = [dict(index=s, caption=caption, background='white', shapes=[dict(shape=shape, color='blue')], words=[]) for s in seeds]
        for s in seeds:
            draw(caption, s, folder)
        print(shape, summary(by_shape(*read_pictures(truths, folder))[shape]), flush=True)
    for name, caption in PATTERNED.items():
        for s in range(1, 7):
            draw(caption, s, f'{out}/{name}')


if __name__ == '__main__':
    if sys.argv[1] == 'large':
        draw_large(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
