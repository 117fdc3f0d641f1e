"""Draws docs/tiny-model.png with Inkstone itself: 24 captions in three sizes.

    python sheet.py PROGRAM MODEL_DIR OUT.png [STEPS] [CFG]

PROGRAM: the built `inkstone`. The seed of a picture is its number in the list."""
import os
import sys
import tempfile

from PIL import Image

from engine import generate

SHEET = [  # caption, width, height
    ('a red heart above the word "LOVE" in black on a yellow background', 256, 256), ('a large striped blue star on a yellow background', 256, 256),
    ('a green square to the left of a purple triangle on a gray background', 256, 256), ('the word "Inkstone" in black on a white background', 256, 256),
    ('a pink heart inside a black circle on a cyan background', 256, 256), ('the words "HELLO" and "world" in black on a white background', 256, 256),
    ('a checkered brown hexagon at the bottom on a pink background', 256, 256), ('a dotted orange diamond on a brown background', 256, 256),
    ('the word "INK" in white inside a blue circle on a white background', 256, 256), ('a small yellow moon in the top right corner on a black background', 256, 256),
    ('a white ring above a red cross on a green background', 256, 256), ('the word "XK4J2Q" in blue on a white background', 256, 256),
    ('draw me two green circles', 256, 256), ('a purple crescent moon with "night" in yellow below it, black background', 256, 256),
    ('an old man reading a newspaper', 256, 256), ('a red car in front of a house', 256, 256),
    ('the word "quick" in white on a purple background', 320, 192), ('a cyan heart to the left of a yellow star on a red background', 320, 192),
    ('an orange circle above the word "sun" in orange on a blue background', 320, 192), ('the word "Stone" in black on an orange background', 320, 192),
    ('a green triangle above the word "TREE" in green on a white background', 192, 320), ('a black cross below a red ring on a pink background', 192, 320),
    ('the word "open" in red on a white background', 192, 320), ('a large checkered black square on a cyan background', 192, 320)]
GAP = 4


def arrange(picture, out):
    """Two rows of eight squares; below them the wide pictures, two by two, and the tall ones. picture: a function (caption, width, height, seed)"""
    square, wide, tall = 256 + GAP, (320 + GAP, 192 + GAP), 192 + GAP
    canvas, count = Image.new('RGB', (8 * square, 2 * square + 2 * wide[1]), (90, 90, 90)), {}
    for seed, (caption, width, height) in enumerate(SHEET):
        i = count[width] = count.get(width, -1) + 1
        at = {256: (i % 8 * square, i // 8 * square), 320: (i % 2 * wide[0], 2 * square + i // 2 * wide[1]), 192: (2 * wide[0] + 8 + i * tall, 2 * square)}[width]
        canvas.paste(picture(caption, width, height, seed), at)
    canvas.save(out, optimize=True)


def main(program, model, out, steps='20', cfg='4'):
    with tempfile.TemporaryDirectory() as folder:
        def picture(caption, width, height, seed):
            path = os.path.join(folder, f'{seed}.png')
            generate(program, model, dict(caption=caption, width=width, height=height, index=seed), steps, cfg, path)
            return Image.open(path).convert('RGB')
        arrange(picture, out)


if __name__ == '__main__':
    main(*sys.argv[1:])
