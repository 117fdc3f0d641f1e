"""Makes glyphs.png, the signed-distance atlas of the 62 letters and digits that the renderer draws words with.

    python glyphs.py FONT.ttf glyphs.png

The atlas that is checked in was made from DejaVu Sans Mono Bold 2.37 (Debian's package fonts-dejavu-core; free licence of Bitstream Vera, changes in
the public domain). One row of 62 cells of 64 x 126 pixels: a cell is one advance wide, capitals are centred on row 54, descenders reach row 118.
128 = edge, darker = inside, 127 grey levels = 0.15 cell widths."""
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from world import GLYPHS

WIDTH, HEIGHT, CENTRE = 64, 126, 54
OVERSAMPLING = 12
ADVANCE_EM, CAPITAL_EM = 0.602, 0.729  # of the font: advance width and height of capitals


def cell(character, font, em):
    width, height = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    image = Image.new('L', (width, height))
    at = ((width - font.getlength(character)) / 2, CENTRE * OVERSAMPLING + CAPITAL_EM * em / 2)
    ImageDraw.Draw(image).text(at, character, fill=255, font=font, anchor='ls')
    ink = np.asarray(image) > 127
    distance = (distance_transform_edt(~ink) - distance_transform_edt(ink)) / width
    distance = distance.reshape(HEIGHT, OVERSAMPLING, WIDTH, OVERSAMPLING).mean((1, 3))
    return np.clip(128 + distance / 0.15 * 127, 0, 255).round().astype(np.uint8)


def main(font_path, out):
    em = round(WIDTH * OVERSAMPLING / ADVANCE_EM)
    font = ImageFont.truetype(font_path, em)
    Image.fromarray(np.concatenate([cell(c, font, em) for c in GLYPHS], 1)).save(out, optimize=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
