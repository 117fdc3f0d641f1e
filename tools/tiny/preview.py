"""Draws 48 random scenes and prints their captions:  python preview.py OUT.png [SEED] [KIND]"""
import sys

import torch
from PIL import Image

from render import Renderer, to_image
from scenes import Scenes
from world import PICTURE_SIZES

if __name__ == '__main__':
    sheet, draw = Image.new('RGB', (8 * 330, 6 * 330), (128, 128, 128)), Renderer('cpu')
    scenes = Scenes(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for i in range(48):
        size = (0, 0, 1, 2)[i % 4]
        caption, row, truth = scenes.next(size, sys.argv[3] if len(sys.argv) > 3 else None)
        sheet.paste(to_image(draw(torch.tensor(row)[None], *PICTURE_SIZES[size])[0]), (i % 8 * 330, i // 8 * 330))
        print(i, truth['kind'], '|', caption)
    sheet.save(sys.argv[1])
