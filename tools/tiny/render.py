"""Draws scenes (rows of numbers, see world.py) from signed distances, whole batches at once, on a CPU or a GPU."""
import os

import numpy as np
import torch
from PIL import Image

from world import MAX_LETTERS, PICTURE_SIZES, RGB, SHAPE_AT, SHAPES, WORD_AT

ATLAS_GLYPHS, ATLAS_RANGE, CAPITAL_CENTRE = 62, .15, 54  # as glyphs.py makes the atlas
GLYPH_FILL = .92  # of a cell's width that the atlas cell covers
STRIPE_PERIOD, DOT_PERIOD, DOT_RADIUS, CHECK_SIZE = 32., 16., 4.6, 16  # pixels


def load_atlas():
    """(glyph, row, column) distances in cell widths, negative inside"""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'glyphs.png')
    image = np.asarray(Image.open(path), np.float32)
    cells = image.reshape(image.shape[0], ATLAS_GLYPHS, -1).transpose(1, 0, 2)
    return torch.tensor(np.ascontiguousarray((cells - 128) / 127 * ATLAS_RANGE))


def _heart(u, v, scale=1.65, middle=.5518):
    """A square on its corner and a half circle on each of its upper sides; exact"""
    x, y = u.abs() / scale, middle - v / scale
    lobe = torch.sqrt((x - .25) ** 2 + (y - .75) ** 2 + 1e-12) - 8 ** -.5
    foot = .5 * (x + y).clamp(min=0)  # of the perpendicular on the lower side
    nearest = torch.minimum(x * x + (y - 1) ** 2, (x - foot) ** 2 + (y - foot) ** 2)
    body = torch.sqrt(nearest + 1e-12) * torch.sign(x - y)
    return torch.where(x + y > 1, lobe, body) * scale


def _drop(u, v, tip=-.95, centre=.32, radius=.62):
    """A round bottom and the two tangents to it from the tip"""
    sine = radius / (centre - tip)
    cosine = float(np.sqrt(1 - sine * sine))
    x, y = u.abs(), v - tip
    along, across = x * sine + y * cosine, x * cosine - y * sine
    ball = torch.sqrt(u * u + (v - centre) ** 2 + 1e-12) - radius
    cone = torch.where(along > 0, across, torch.sqrt(u * u + y * y + 1e-12))
    return torch.where(along > (centre - tip) * cosine, ball, cone)


def shape_distances(u, v):
    """Signed distances (negative inside) of all shapes at unit coordinates, in the order of world.SHAPES"""
    larger = torch.maximum
    r, angle = torch.sqrt(u * u + v * v + 1e-12), torch.atan2(v, u)

    def polygon(n, turn):
        a = torch.remainder(angle + turn, 2 * np.pi / n) - np.pi / n
        return r * torch.cos(a) - float(np.cos(np.pi / n))

    a = (torch.remainder(angle + np.pi / 2, 2 * np.pi / 5) - np.pi / 5).abs()
    x, y = r * torch.cos(a), r * torch.sin(a)
    inner, ex, ey = .42, float(np.cos(np.pi / 5)) - .42, float(np.sin(np.pi / 5))
    star = ((x - inner) * ey - y * ex) / float(np.hypot(ex, ey))
    au, av = u.abs(), v.abs()
    cross = torch.minimum(larger(au - .3, av - .92), larger(av - .3, au - .92))
    moon = larger(r - .95, .8 - torch.sqrt((u - .42) ** 2 + v * v + 1e-12))
    return [r - .95, larger(au, av) - .82, polygon(3, np.pi / 2), star, (r - .72).abs() - .23, _heart(u, v), (au + av - 1) * .7071, cross, moon,
            polygon(6, 0.), _drop(u, v)]


def _pattern(kind, x, y):
    """1 where a pattern shows the shape's own colour, 0 where the other; x, y in pixels from the middle"""
    wave = torch.remainder(x + y, STRIPE_PERIOD) - STRIPE_PERIOD / 2
    stripes = (.5 - (wave.abs() - STRIPE_PERIOD / 4) * .7071).clamp(0, 1)
    dx, dy = torch.remainder(x, DOT_PERIOD) - DOT_PERIOD / 2, torch.remainder(y, DOT_PERIOD) - DOT_PERIOD / 2
    dots = (.5 + torch.sqrt(dx * dx + dy * dy + 1e-9) - DOT_RADIUS).clamp(0, 1)
    checks = ((torch.floor(x / CHECK_SIZE) + torch.floor(y / CHECK_SIZE)) % 2 == 0).float()
    return torch.where(kind == 1, stripes, torch.where(kind == 2, dots, torch.where(kind == 3, checks, torch.ones_like(x))))


def _put_shape(image, field, rgb, x, y, half):
    shape, radius = field(0).long(), field(5).clamp(min=.05) * half
    distance = torch.full_like(x, 9.)
    for n, d in enumerate(shape_distances((x - field(3) * half) / radius, (y - field(4) * half) / radius)):
        distance = torch.where(shape == n, d, distance)
    cover = (.5 - distance * radius).clamp(0, 1)[:, None]
    color = rgb[field(1)[:, 0, 0].long().clamp(0, 11)][:, :, None, None]
    other = torch.where(color.mean(1, keepdim=True) > .6, color * .45 - .1, color * .25 + .75)
    return image * (1 - cover) + (other + (color - other) * _pattern(field(2), x, y)[:, None]) * cover


def _put_word(image, field, glyphs, atlas, rgb, x, y, half):
    rows, columns = atlas.shape[1:]
    flat, count, width = atlas.reshape(-1), field(0), field(4).clamp(min=.02) * half
    fx = (x - field(2) * half) / width + count / 2
    index = torch.floor(fx).clamp(0, MAX_LETTERS - 1).long()
    glyph = torch.gather(glyphs.long(), 1, index.reshape(len(image), -1)).view_as(index)
    px = ((fx - index) * GLYPH_FILL + (1 - GLYPH_FILL) / 2) * columns - .5
    py = (y - field(3) * half) / width * GLYPH_FILL * columns + CAPITAL_CENTRE - .5
    inside = (fx > 0) & (fx < count) & (py > -1) & (py < rows)
    px, py = px.clamp(0, columns - 1.001), py.clamp(0, rows - 1.001)
    x0, y0 = px.floor(), py.floor()
    ax, ay = px - x0, py - y0
    at = glyph * (rows * columns) + y0.long() * columns + x0.long()
    top = flat[at] * (1 - ax) + flat[at + 1] * ax
    bottom = flat[at + columns] * (1 - ax) + flat[at + columns + 1] * ax
    distance = top * (1 - ay) + bottom * ay
    cover = ((.5 - distance * width / GLYPH_FILL).clamp(0, 1) * inside)[:, None]
    color = rgb[field(1)[:, 0, 0].long().clamp(0, 11)][:, :, None, None]
    return image * (1 - cover) + color * cover


def render(rows, atlas, rgb, top, left, half, height, width):
    """rows (B, ROW) -> pictures (B, 3, height, width) in -1..1. top, left (B): the window's upper left corner in pixels from the picture's middle;
    half (B): half the picture's shorter side."""
    device, half = rows.device, half[:, None, None]
    y = torch.arange(height, device=device).float()[None, :, None] + top[:, None, None] + .5
    x = torch.arange(width, device=device).float()[None, None, :] + left[:, None, None] + .5
    y, x = y.expand(-1, height, width), x.expand(-1, height, width)
    image = rgb[rows[:, 0].long()][:, :, None, None].expand(-1, 3, height, width)
    for at in SHAPE_AT:
        image = _put_shape(image, lambda i, at=at: rows[:, at + i, None, None], rgb, x, y, half)
    for at in WORD_AT:
        image = _put_word(image, lambda i, at=at: rows[:, at + i, None, None], rows[:, at + 5:at + 5 + MAX_LETTERS], atlas, rgb, x, y, half)
    return image


class Renderer:
    def __init__(self, device, compiled=False):
        self.device, self.atlas, self.rgb = device, load_atlas().to(device), torch.tensor(RGB, device=device)
        self.draw = torch.compile(render, dynamic=False) if compiled else render

    @torch.no_grad()
    def __call__(self, rows, width, height):
        """Whole pictures"""
        def fill(value):
            return torch.full((len(rows),), float(value), device=self.device)
        return self.draw(rows, self.atlas, self.rgb, fill(-height / 2), fill(-width / 2), fill(min(height, width) / 2), height, width)


def to_image(picture):
    """(3, H, W) in -1..1 -> PIL"""
    return Image.fromarray(((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())


def sizes_text(index):
    return '%dx%d' % PICTURE_SIZES[index]


assert len(shape_distances(torch.zeros(1), torch.zeros(1))) == len(SHAPES)
