"""Feeds the transformer's training: worker processes make captioned scenes, the GPU draws and encodes them into a pool of latents."""
import torch

from nets import pack
from render import Renderer, render
from scenes import Scenes
from text import EMPTY_PROMPT, TEMPLATE_TOKENS, TEXT_TOKENS, Text
from world import PICTURE_SIZES, ROW

import numpy as np

SHARES = (5, 2, 2, 1)  # of the four picture sizes, in training steps and in the pool
ORDER = (0, 1, 0, 2, 0, 3, 0, 1, 0, 2)  # the sizes of a worker's chunks, in turn
EMPTY_SHARE = .1  # of the captions that are the empty prompt, for guidance


def make_chunk(scenes, text, count, size):
    """Training scenes of one size: rows, ids, lengths"""
    rows, captions = np.zeros((count, ROW), np.float32), []
    for i in range(count):
        caption, rows[i], _ = scenes.next(size)
        captions.append(EMPTY_PROMPT if scenes.r.random() < EMPTY_SHARE else caption)
    ids, lengths = text(captions)
    for i in np.nonzero(lengths > TEXT_TOKENS)[0]:
        while lengths[i] > TEXT_TOKENS:  # too long: another scene
            caption, rows[i], _ = scenes.next(size)
            one, length = text([caption])
            ids[i], lengths[i] = one[0], length[0]
    return rows, ids, lengths


def work(seed, queue, tokenizer, count):
    """A worker process: chunks without end"""
    torch.set_num_threads(1)
    scenes, text, turn = Scenes(seed), Text(tokenizer), seed
    while True:
        size = ORDER[turn % len(ORDER)]
        queue.put((size, *make_chunk(scenes, text, count, size)))
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
        self.encode = torch.compile(self._encode, dynamic=False) if compiled else self._encode

    def _encode(self, rows, atlas, rgb, top, left, half, height, width):
        pictures = render(rows, atlas, rgb, top, left, half, height, width).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.split(':')[0], torch.bfloat16):
            mean = self.vae.encode(pictures)[:, :16].float()
        return pack((mean - self.mean) / self.std).to(torch.bfloat16)

    @torch.no_grad()
    def add(self):
        """Takes one chunk from the workers"""
        size, rows, ids, lengths = self.queue.get()
        (width, height), at, n, b = PICTURE_SIZES[size], self.at[size], len(rows), self.batch
        rows = torch.from_numpy(rows).to(self.device, non_blocking=True)
        top, left, half = (torch.full((b,), float(v), device=self.device) for v in (-height / 2, -width / 2, min(height, width) / 2))
        for k in range(0, n, b):
            self.latents[size][at + k:at + k + b] = self.encode(rows[k:k + b], self.renderer.atlas, self.renderer.rgb, top, left, half, height, width)
        self.ids[size][at:at + n] = torch.from_numpy(ids).to(self.device)
        self.lengths[size][at:at + n] = torch.from_numpy(lengths).to(self.device)
        self.at[size] = (at + n) % self.capacity[size]
        self.filled[size] = max(self.filled[size], at + n)
        self.made += n

    def draw(self, size, count, generator):
        """A random batch: latents, ids, lengths of the prompts"""
        i = torch.randint(self.filled[size], (count,), device=self.device, generator=generator)
        return self.latents[size][i], self.ids[size][i].int(), self.lengths[size][i].int() - TEMPLATE_TOKENS
