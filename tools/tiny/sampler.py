"""Draws pictures with the networks of nets.py, as diffusers' QwenImagePipeline, -Img2ImgPipeline and -InpaintPipeline do."""
import dataclasses

import numpy as np
import torch

from nets import masked, pack, rope_tables, sigmas, unpack
from text import EMPTY_PROMPT, TEMPLATE_TOKENS, TEXT_TOKENS
from world import PICTURE_SIZES


@dataclasses.dataclass
class Start:
    """Pictures to start from"""
    pictures: torch.Tensor  # (n, 3, H, W) in -1..1
    strength: float = 1.  # share of the steps
    masks: torch.Tensor = None  # (n, tokens), 1 where to draw; the rest is kept


@torch.no_grad()
def generate(nets, text, captions, size, steps, cfg, seeds, device, start=None):
    """nets: text encoder, transformer, VAE, latents' mean and deviation. seeds: of each picture; its noise is that of diffusers and Inkstone.
    -> (n, 3, H, W) in -1..1"""
    encoder, dit, vae, mean, std = nets
    width, height = PICTURE_SIZES[size]
    rows, columns = height // 16, width // 16
    tokens, prompt_tokens = rows * columns, TEXT_TOKENS - TEMPLATE_TOKENS
    drawn = [torch.randn(16, 2 * rows, 2 * columns, generator=torch.Generator().manual_seed(s)) for s in seeds]
    noise = x = pack(torch.stack(drawn)).to(device)
    rope, sigma, first = rope_tables(rows, columns, prompt_tokens, dit.axes, device), sigmas(steps, tokens), 0
    mean, std = (v.to(device)[None, :, None, None] for v in (mean, std))
    if start:
        first = steps - min(int(steps * start.strength), steps)
        known = pack((vae.encode(start.pictures)[:, :16] - mean) / std)
        x = (1 - sigma[first]) * known + sigma[first] * noise

    def states(prompts):
        ids, lengths = text(prompts)
        lengths = torch.tensor(lengths.astype(np.int64), device=device).clamp(max=TEXT_TOKENS) - TEMPLATE_TOKENS
        return encoder(torch.tensor(ids.astype(np.int64), device=device))[:, TEMPLATE_TOKENS:], masked(lengths, tokens, prompt_tokens)

    with torch.autocast(device.split(':')[0], torch.bfloat16):
        prompt, attend = states(captions)
        empty, attend_empty = states([EMPTY_PROMPT] * len(captions))
        for i in range(first, steps):
            s = torch.full((len(captions),), float(sigma[i]), device=device)
            velocity = dit(x, prompt, s, attend, rope).float()
            if cfg > 1:
                without = dit(x, empty, s, attend_empty, rope).float()
                guided = without + cfg * (velocity - without)
                velocity = guided * (velocity.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True).clamp(min=1e-9))
            x = x + (sigma[i + 1] - sigma[i]) * velocity
            if start and start.masks is not None:
                x = torch.where(start.masks[:, :, None] > 0, x, (1 - sigma[i + 1]) * known + sigma[i + 1] * noise)
        z = unpack(x, 2 * rows, 2 * columns) * std + mean
        return torch.cat([vae.decode(q).float() for q in z.split(32)]).clamp(-1, 1)


def draw_all(nets, text, truths, steps, cfg, device, batch=128):
    """Every caption of a list in its own size, rounded to 8 bits; the seed is its index"""
    pictures = [None] * len(truths)
    for size, wh in enumerate(PICTURE_SIZES):
        indices = [i for i, t in enumerate(truths) if (t['width'], t['height']) == wh]
        for k in range(0, len(indices), batch):
            part = indices[k:k + batch]
            captions, seeds = [truths[i]['caption'] for i in part], [truths[i]['index'] for i in part]
            drawn = generate(nets, text, captions, size, steps, cfg, seeds, device)
            for i, p in zip(part, drawn):
                pictures[i] = (p * 127.5 + 127.5).round() / 127.5 - 1
    return pictures
