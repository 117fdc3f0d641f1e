"""The checker: a small network that reads a picture's background, shapes, colours, pattern, position, size and letters.

    python checker.py train SECONDS OUT_DIR [INIT.safetensors]        on pictures drawn on the fly; writes checker.safetensors and report.json
    python checker.py score CHECKER.safetensors CAPTIONS.json PNG_DIR [--ignore-case]
                                                                      PNG_DIR/<index>.png (leading zeros allowed) against the captions' truth
CAPTIONS.json: a list of {index, caption, background, shapes, words, width, height}, see captions.py."""
import glob
import json
import math
import multiprocessing
import os
import re
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from render import Renderer
from scenes import Scenes
from truth import CLASSES, NOT_ASKED, TARGETS, faults, score, target
from world import MAX_LETTERS, NO_GLYPH, PICTURE_SIZES, ROW

WIDTH, DEPTH, HEADS = 96, 3, 4
GLYPH_CLASSES = NO_GLYPH + 1
# Which query answers which target: background, two shapes, place and size, two words' colours, their letters
_FIRST = 6 + MAX_LETTERS
QUERY = [0, 1, 1, 1, 2, 2, 2, 3, 3, 4, *range(6, _FIRST), 5, *range(_FIRST, _FIRST + MAX_LETTERS)]
QUERIES = 6 + 2 * MAX_LETTERS
SIZE_SHARES = (.5, .2, .2, .1)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.h = heads
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o, self.a, self.b = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.n1(x)).view(batch, tokens, 3, self.h, width // self.h).permute(2, 0, 3, 1, 4)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.b(F.gelu(self.a(self.n2(x))))


def _stage(channels_in, channels, stride):
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1), nn.GroupNorm(8, channels), nn.GELU())


class Checker(nn.Module):
    """Pictures (B, 3, H, W) in -1..1 -> one tensor of class scores a target"""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(_stage(3, 24, 2), _stage(24, 48, 2), _stage(48, 64, 2), _stage(64, 64, 1), _stage(64, WIDTH, 2))
        self.pos, self.query = nn.Linear(32, WIDTH), nn.Parameter(torch.randn(QUERIES, WIDTH) * .5)
        self.layers, self.norm = nn.ModuleList([Layer(WIDTH, HEADS) for _ in range(DEPTH)]), nn.LayerNorm(WIDTH)
        self.letter = nn.Linear(WIDTH, GLYPH_CLASSES)
        self.heads = nn.ModuleList([nn.Linear(WIDTH, n) for n in CLASSES if n != GLYPH_CLASSES])

    def places(self, h, w, device):
        """(h w, 32) sines, products and coordinates of the cells, in half pictures"""
        shorter, waves = min(h, w) / 2, 2. ** torch.arange(-1, 3, device=device) * math.pi
        y, x = ((torch.arange(n, device=device).float() + .5 - n / 2) / shorter for n in (h, w))
        ey, ex = (torch.cat([(t[:, None] * waves).sin(), (t[:, None] * waves).cos()], 1) for t in (y, x))
        grid = torch.stack(torch.meshgrid(y, x, indexing='ij'), -1).repeat(1, 1, 4)
        return torch.cat([ey[:, None].expand(-1, w, -1), ex[None].expand(h, -1, -1), ey[:, None] * ex[None], grid], -1).view(h * w, 32)

    def forward(self, x):
        f = self.stem(x)
        batch, _, h, w = f.shape
        cells = f.flatten(2).transpose(1, 2) + self.pos(self.places(h, w, x.device)).to(f.dtype)
        s = torch.cat([self.query[None].expand(batch, -1, -1).to(f.dtype), cells], 1)
        for layer in self.layers:
            s = layer(s)
        q, heads = self.norm(s[:, :QUERIES]), iter(self.heads)
        return [(self.letter if n == GLYPH_CLASSES else next(heads))(q[:, QUERY[t]]).float() for t, n in enumerate(CLASSES)]


def spoil(x):
    """Noise, slight blur and slight shifts of colour, so that what a decoder leaves does not mislead the checker"""
    def some(*shape):
        return torch.rand(len(x), *shape, device=x.device)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode='replicate'), 3, 1)
    x = x + (blurred - x) * some(1, 1, 1) * (some(1, 1, 1) < .5)
    x = x + (some(3, 1, 1) - .5) * .12 * (some(1, 1, 1) < .5)
    blotches = torch.randn(len(x), 3, x.shape[2] // 8, x.shape[3] // 8, device=x.device)
    x = x + torch.randn_like(x) * .12 * some(1, 1, 1) * (some(1, 1, 1) < .5)
    return x + F.interpolate(blotches, size=x.shape[2:], mode='nearest') * .06 * some(1, 1, 1)


@torch.no_grad()
def predict(model, pictures):
    """Pictures (3, H, W) in -1..1 of any of the sizes -> (n, TARGETS)"""
    device, out, groups = next(model.parameters()).device, np.zeros((len(pictures), TARGETS), np.int64), {}
    for i, p in enumerate(pictures):
        groups.setdefault(tuple(p.shape), []).append(i)
    for indices in groups.values():
        for k in range(0, len(indices), 64):
            part = indices[k:k + 64]
            scores = model(torch.stack([pictures[i] for i in part]).to(device).float())
            out[part] = torch.stack([t.argmax(-1) for t in scores], 1).cpu().numpy()
    return out


def load(path, device='cpu'):
    model = Checker()
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model.eval().to(device)


def scene_rows(seed, count):
    """`count` scenes of every size: rows and targets"""
    scenes, rows, targets = Scenes(seed), np.zeros((4, count, ROW), np.float32), np.zeros((4, count, TARGETS), np.int64)
    for size in range(4):
        for i in range(count):
            _, rows[size, i], truth = scenes.next(size)
            targets[size, i] = target(truth)
    return rows, targets


def loss_of(model, pictures, targets):
    scores, total = model(pictures), 0.
    for k, (s, n) in enumerate(zip(scores, CLASSES)):
        if (targets[:, k] != NOT_ASKED).any():
            total = total + F.cross_entropy(s, targets[:, k], ignore_index=NOT_ASKED) * (2. if n == GLYPH_CLASSES else 1.)
    return total / TARGETS


def train(seconds, out, init=None):
    gpu = torch.cuda.is_available()
    device, batch, parts = 'cuda' if gpu else 'cpu', 256 if gpu else 8, 24
    os.makedirs(out, exist_ok=True)
    with multiprocessing.get_context('fork').Pool(8 if gpu else 1) as workers:
        made = workers.starmap(scene_rows, [(900 + i, 5000 if gpu else 10) for i in range(parts)])
    rows, targets = (torch.tensor(np.concatenate([m[k] for m in made], 1), device=device) for k in (0, 1))
    torch.manual_seed(0)
    draw, model, choose, step = Renderer(device, gpu), load(init, device).train() if init else Checker().to(device), np.random.default_rng(0), 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=.02, betas=(.9, .98))
    for size, wh in enumerate(PICTURE_SIZES):
        draw(rows[size, :batch], *wh)  # compiles
    start = time.time()
    while time.time() - start < seconds:
        done = (time.time() - start) / seconds
        for group in optimiser.param_groups:
            group['lr'] = 2e-3 * min(1, step / 300) * (.5 + .5 * math.cos(math.pi * min(1, done)))
        size, i = int(choose.choice(4, p=SIZE_SHARES)), torch.randint(rows.shape[1], (batch,), device=device)
        pictures = spoil(draw(rows[size, i], *PICTURE_SIZES[size]))
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(model, pictures, targets[size, i])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimiser.step()
        step += 1
        if step % 250 == 0:
            print(f'checker {step} {time.time() - start:.0f} s loss {loss.item():.4f} pictures/s {step * batch / (time.time() - start):.0f}', flush=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, out + '/checker.tmp')
    os.replace(out + '/checker.tmp', out + '/checker.safetensors')
    report(out, device, 2000 if gpu else 40, dict(pictures_trained=step * batch, steps=step))


def report(out, device, count, extra):
    """The written checker on renders of held-out scenes"""
    scenes, draw = Scenes(5, held=True), Renderer(device)
    drawn = [scenes.next((0, 0, 0, 1, 2, 3)[i % 6]) for i in range(count)]
    pictures = [draw(torch.tensor(row, device=device)[None], t['width'], t['height'])[0] for _, row, t in drawn]
    result = dict(score(predict(load(out + '/checker.safetensors', device), pictures), [t for _, _, t in drawn]), **extra)
    json.dump(result, open(out + '/report.json', 'w'), indent=1)
    print('checker on held-out renders', json.dumps(result), flush=True)


def read_pictures(truths, folder):
    """The truths that have a picture in the folder, and the pictures"""
    files = {int(re.findall(r'\d+', os.path.basename(f))[-1]): f for f in glob.glob(folder + '/*.png')}
    truths = [t for t in truths if t['index'] in files]
    pictures = [torch.tensor(np.array(Image.open(files[t['index']]).convert('RGB'))).permute(2, 0, 1).float() / 127.5 - 1 for t in truths]
    return truths, pictures


def main(checker, captions, folder, *options):
    truths, pictures = read_pictures(json.load(open(captions)), folder)
    read = predict(load(checker), pictures)
    for t, r in zip(truths, read):
        if faults(r, t):
            print(t['index'], t['caption'], '|', ' '.join(faults(r, t)))
    print(json.dumps(score(read, truths, '--ignore-case' in options), indent=1))


if __name__ == '__main__':
    if sys.argv[1] == 'train':
        train(float(sys.argv[2]), *sys.argv[3:])
    else:
        main(*sys.argv[2:])
