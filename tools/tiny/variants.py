"""Other versions of a scene's row, for training picture-to-picture and inpainting: what the start picture may show instead of what the caption says."""
import numpy as np

from world import COLOR_NAMES, SHAPE_AT, WORD_AT

WHOLE, HALF = 0, 1  # where the picture differs
HALF_SHARE, GROUND_SHARE, EMPTY_SHARE = .4, .25, .5  # of the pairs; of the recoloured scenes; of the halves


def recoloured(row, random, ground_too):
    """The same shapes and words in other colours, each apart from the background"""
    row, free = row.copy(), [c for c in range(len(COLOR_NAMES)) if c != row[0]]
    if ground_too:
        used = {row[at + 1] for at in SHAPE_AT if row[at] >= 0} | {row[at + 1] for at in WORD_AT if row[at] > 0}
        row[0] = random.choice([c for c in free if c not in used])
        return row
    for at in (*SHAPE_AT, *WORD_AT):
        if row[at] > (-1 if at in SHAPE_AT else 0):
            row[at + 1] = random.choice([c for c in free if c != row[at + 1]])
    return row


def emptied(row):
    """Only the background"""
    row = row.copy()
    row[list(SHAPE_AT)], row[list(WORD_AT)] = -1, 0
    return row


def variant(row, random):
    """-> row of the other picture, WHOLE or HALF"""
    half = random.random() < HALF_SHARE
    if half and random.random() < EMPTY_SHARE:
        return emptied(row), HALF
    return recoloured(row, random, random.random() < GROUND_SHARE), HALF if half else WHOLE


def half_masks(rows, columns):
    """(4, tokens): 1 in the left, right, upper and lower half of the tokens of a picture"""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x < columns // 2, x >= columns // 2, y < rows // 2, y >= rows // 2]).reshape(4, -1).astype(np.float32)
