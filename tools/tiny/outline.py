"""How even drawn outlines are: the mean distance in pixels between the drawn and the true edge.

    python outline.py CAPTIONS.json PNG_DIR [--version1]

For every picture whose truth is one shape without pattern or words: the shape's cover is read from the colours, its place and size are fitted to the renderer's own signed distances, and the distance of every drawn edge point (cover 0.5, between two pixels) from the true edge is averaged.
--version1: version 1's heart, which followed another curve, is left out."""
import json
import sys

import numpy as np
import torch

from checker import read_pictures
from render import shape_distances
from world import COLOR, RGB, SHAPES

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


def main(captions, folder, *options):
    skipped, by_shape = {'heart'} if '--version1' in options else set(), {}
    for truth, picture in zip(*read_pictures([t for t in json.load(open(captions)) if suits(t)], folder)):
        shape, distance = truth['shapes'][0]['shape'], measure(picture, truth)
        if shape not in skipped and distance is not None:
            by_shape.setdefault(shape, []).append(distance)
    print(json.dumps({k: round(float(np.mean(v)), 2) for k, v in sorted(by_shape.items())}))
    everything = np.concatenate(list(by_shape.values()))
    print(f'mean {everything.mean():.2f} px, median {np.median(everything):.2f}, worst {everything.max():.2f}, {len(everything)} shapes')


if __name__ == '__main__':
    main(*sys.argv[1:])
