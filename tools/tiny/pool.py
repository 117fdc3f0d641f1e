"""Feeds the transformer's training: worker processes make captioned scenes, the GPU draws and encodes them into a pool of latents."""
import torch

from nets import pack
from render import Renderer, render
from scenes import Scenes
from text import EMPTY_PROMPT, TEMPLATE_TOKENS, TEXT_TOKENS, Text
from unseen import KeptOut
from variants import variant
from world import PICTURE_SIZES, ROW

import numpy as np

SHARES = (10, 4, 4, 3)  # of the four picture sizes, in training steps and in the pool
ORDER = (0, 1, 2, 0, 3, 0, 1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 3, 0, 1, 2, 0)  # the sizes of a worker's chunks, in turn
PAIRED = 8  # one scene in so many has another version beside it (variants.py)
EMPTY_SHARE = .1  # of the captions that are the empty prompt, for guidance


def training_scene(scenes, size, kept_out):
    """Caption and row of a scene that is not to be kept out"""
    while True:
        caption, row, truth = scenes.next(size)
        if truth not in kept_out:
            return caption, row


def make_chunk(scenes, text, count, size, kept_out):
    """Training scenes of one size: rows, ids, lengths; of the first ones another version's rows and where it differs"""
    rows, captions, paired = np.zeros((count, ROW), np.float32), [], max(1, count // PAIRED)
    for i in range(count):
        caption, rows[i] = training_scene(scenes, size, kept_out)
        captions.append(EMPTY_PROMPT if i >= paired and scenes.r.random() < EMPTY_SHARE else caption)
    ids, lengths = text(captions)
    for i in np.nonzero(lengths > TEXT_TOKENS)[0]:
        while lengths[i] > TEXT_TOKENS:  # too long: another scene
            caption, rows[i] = training_scene(scenes, size, kept_out)
            one, length = text([caption])
            ids[i], lengths[i] = one[0], length[0]
    others, where = zip(*[variant(row, scenes.r) for row in rows[:paired]])
    return rows, ids, lengths, np.stack(others), np.array(where, np.uint8)


def work(seed, queue, tokenizer, count):
    """A worker process: chunks without end"""
    torch.set_num_threads(1)
    scenes, text, kept_out, turn = Scenes(seed), Text(tokenizer), KeptOut(), seed
    while True:
        size = ORDER[turn % len(ORDER)]
        queue.put((size, *make_chunk(scenes, text, count, size, kept_out)))
        turn += 1


class Pool:
    """Latents (packed, normalised, bf16) and texts of `capacity` scenes on one device; a ring that fresh scenes overwrite"""

    def __init__(self, capacity, queue, vae, mean, std, device, batch, chunk, compiled):
        self.queue, self.vae, self.device, self.batch = queue, vae, device, batch
        self.capacity = [max(1, capacity * k // sum(SHARES) // chunk) * chunk for k in SHARES]
        self.at, self.filled, self.made = [0] * 4, [0] * 4, 0
        self.mean, self.std = mean.to(device)[None, :, None, None], std.to(device)[None, :, None, None]
        self.renderer = Renderer(device)
        tokens = [w * h // 256 for w, h in PICTURE_SIZES]
        self.latents = [torch.empty(c, k, 64, device=device, dtype=torch.bfloat16) for c, k in zip(self.capacity, tokens)]
        self.ids = [torch.empty(c, TEXT_TOKENS, device=device, dtype=torch.int16) for c in self.capacity]
        self.lengths = [torch.empty(c, device=device, dtype=torch.int16) for c in self.capacity]
        self.chunk, self.pairs = chunk, max(1, chunk // PAIRED)
        self.others = [torch.empty(c // chunk * self.pairs, k, 64, device=device, dtype=torch.bfloat16) for c, k in zip(self.capacity, tokens)]
        self.where = [torch.empty(c // chunk * self.pairs, device=device, dtype=torch.uint8) for c in self.capacity]
        self.encode = torch.compile(self._encode, dynamic=False) if compiled else self._encode

    def _encode(self, rows, atlas, rgb, top, left, half, height, width):
        pictures = render(rows, atlas, rgb, top, left, half, height, width).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.split(':')[0], torch.bfloat16):
            mean = self.vae.encode(pictures)[:, :16].float()
        return pack((mean - self.mean) / self.std).to(torch.bfloat16)

    def _drawn(self, rows, size):
        """Latents of rows, `batch` at a time (the last ones filled up, so that shapes stay the same)"""
        (width, height), b = PICTURE_SIZES[size], self.batch
        rows = torch.from_numpy(rows).to(self.device, non_blocking=True)
        top, left, half = (torch.full((b,), float(v), device=self.device) for v in (-height / 2, -width / 2, min(height, width) / 2))
        parts = [torch.cat([p, p[:1].expand(b - len(p), -1)]) for p in rows.split(b)]
        return torch.cat([self.encode(p, self.renderer.atlas, self.renderer.rgb, top, left, half, height, width) for p in parts])[:len(rows)]

    @torch.no_grad()
    def add(self):
        """Takes one chunk from the workers"""
        size, rows, ids, lengths, others, where = self.queue.get()
        at, n, first = self.at[size], len(rows), self.at[size] // self.chunk * self.pairs
        self.latents[size][at:at + n] = self._drawn(rows, size)
        self.others[size][first:first + self.pairs] = self._drawn(others, size)
        self.where[size][first:first + self.pairs] = torch.from_numpy(where).to(self.device)
        self.ids[size][at:at + n] = torch.from_numpy(ids).to(self.device)
        self.lengths[size][at:at + n] = torch.from_numpy(lengths).to(self.device)
        self.at[size] = (at + n) % self.capacity[size]
        self.filled[size] = max(self.filled[size], at + n)
        self.made += n

    def fill(self, count):
        """Takes chunks until `count` scenes are there, and some of every size"""
        while sum(self.filled) < min(count, sum(self.capacity)) or min(self.filled) == 0:
            self.add()

    def restart(self, weights, count):
        """Forgets all latents and fills up again with another VAE's"""
        self.vae.load_state_dict(weights)
        self.at, self.filled = [0] * 4, [0] * 4
        self.fill(count)

    def draw(self, size, count, paired, generator):
        """A random batch: latents, ids, lengths of the prompts; for its first `paired` the other version's latents and where it differs"""
        i = torch.randint(self.filled[size], (count,), device=self.device, generator=generator)
        j = torch.randint(self.filled[size] // self.chunk * self.pairs, (paired,), device=self.device, generator=generator)
        i[:paired] = j // self.pairs * self.chunk + j % self.pairs
        return self.latents[size][i], self.ids[size][i].int(), self.lengths[size][i].int() - TEMPLATE_TOKENS, self.others[size][j], self.where[size][j]
