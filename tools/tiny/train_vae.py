"""Trains the VAE.

    python train_vae.py windows SECONDS OUT_DIR                 encoder and decoder from random weights, on windows of 192x192
    python train_vae.py decoder SECONDS OUT_DIR [MODEL_DIR]     the decoder alone, on whole pictures, from MODEL_DIR (a diffusers folder) or OUT_DIR/vae.pt

Both write OUT_DIR/vae.pt (names as in nets.py, with the latents' mean and deviation) and print the held-out figures. `decoder` leaves the encoder, and
so the latents, as they are: it can run before, after or beside train_dit.py. Works on a CPU too (slowly; for tests)."""
import json
import math
import multiprocessing
import os
import sys
import time

import numpy as np
import torch

from nets import VAE, VAE_CFG
from render import Renderer, render, sizes_text
from scenes import Scenes
from weights import load_vae
from world import COLOR_NAMES, PICTURE_SIZES, ROW, SHAPE_AT, WORD_AT

GPU = torch.cuda.is_available()
DEVICE = 'cuda' if GPU else 'cpu'
WINDOW, KL_WEIGHT, WINDOW_RATE, DECODER_RATE = 192, 5e-4, 2e-3, 3e-4
SIZE_SHARES = (.3, .2, .35, .15)  # of the decoder's pictures; small letters in the narrow ones are the hardest
BLOTCH_SHARE, EMPTY_SHARE = .3, .15  # of the decoder's pictures: a background of any colour again; nothing but the background


def rows_of(seed, count, held=False):
    """(4, count, ROW): scenes of every size"""
    scenes = Scenes(seed, held=held)
    return np.stack([np.stack([scenes.next(size)[1] for _ in range(count)]) for size in range(4)])


def psnr(squared_error):
    return 10 * math.log10(4 / max(squared_error, 1e-12))


def edge_loss(d):
    """Mean absolute difference of neighbours"""
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


@torch.no_grad()
def held_out_psnr(vae, count=96):
    """dB on held-out renders of every size (the mean of the latents), and the worst plain colour"""
    rows, draw, result = torch.tensor(rows_of(77, count if GPU else 4, held=True), device=DEVICE), Renderer(DEVICE), {}
    for size, wh in enumerate(PICTURE_SIZES):
        plain = torch.zeros(12, ROW, device=DEVICE)
        plain[:, 0], plain[:, list(SHAPE_AT)] = torch.arange(12, device=DEVICE).float(), -1.
        for name, some in ((sizes_text(size), rows[size]), (sizes_text(size) + ' plain', plain)):
            errors = []
            for part in some.split(16):
                x = draw(part, *wh)
                errors.append(((vae.decode(vae.encode(x)[:, :16]).clamp(-1, 1) - x) ** 2).mean((1, 2, 3)))
            e = torch.cat(errors)
            result[name] = round(psnr((e.max() if 'plain' in name else e.mean()).item()), 2)
    return result


def finish(vae, average, parameters, out, mean, std, steps):
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
    vae.eval()
    figures = held_out_psnr(vae)
    print('held-out dB', json.dumps(figures), 'steps', steps, flush=True)
    torch.save(dict(sd={k: t.cpu().contiguous() for k, t in vae.state_dict().items()}, mean=mean.cpu(), std=std.cpu(), psnr=figures, steps=steps), out + '/vae.tmp')
    os.replace(out + '/vae.tmp', out + '/vae.pt')


def train_windows(seconds, out):
    torch.manual_seed(0)
    count, batch, side, halves = (10000, 64, WINDOW, 12) if GPU else (30, 2, 64, 1)
    with multiprocessing.get_context('fork').Pool(halves) as workers:
        rows = torch.tensor(np.concatenate(workers.starmap(rows_of, [(500 + i, count // 4) for i in range(halves)]), 1), device=DEVICE)
    wh, renderer, vae = torch.tensor(PICTURE_SIZES, device=DEVICE).float(), Renderer(DEVICE), VAE(**VAE_CFG).to(DEVICE).to(memory_format=torch.channels_last)
    draw = torch.compile(render, dynamic=False) if GPU else render
    parameters, deviation, step, start = list(vae.parameters()), torch.ones(16, device=DEVICE), 0, None
    average, optimiser = [p.detach().clone() for p in parameters], torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4, betas=(.9, .97), fused=GPU)

    def losses(x, noise, more, tau, deviation):
        with torch.autocast(DEVICE, torch.bfloat16):
            h = vae.encode(x).float()
            mean, log_variance = h[:, :16], h[:, 16:].clamp(-20, 10)
            y = vae.decode(mean + torch.exp(.5 * log_variance) * noise + more * tau * deviation[None, :, None, None]).float()
        kl, d = .5 * (mean ** 2 + log_variance.exp() - log_variance - 1).mean(), y - x
        return d.abs().mean() + .5 * edge_loss(d) + .7 * (d ** 2).mean() + KL_WEIGHT * kl, (d ** 2).mean(), mean.detach().std((0, 2, 3))
    losses = torch.compile(losses, dynamic=False) if GPU else losses
    while start is None or time.time() - start < seconds:
        if step == 3:
            start = time.time()
        done = (time.time() - start) / seconds if start else 0.
        for g in optimiser.param_groups:
            g['lr'] = WINDOW_RATE * min(1, step / 200) * (.5 + .5 * math.cos(math.pi * min(1, done)))
        size = torch.randint(4, (batch,), device=DEVICE)
        w, u = wh[size], torch.rand(batch, 2, device=DEVICE)
        left, top = (torch.floor(u[:, k] * (w[:, k] - side + 1).clamp(min=1)) - w[:, k] / 2 for k in (0, 1))
        some = rows[size, torch.randint(rows.shape[1], (batch,), device=DEVICE)]
        with torch.no_grad():
            x = draw(some, renderer.atlas, renderer.rgb, top, left, w.amin(1) / 2, side, side).contiguous(memory_format=torch.channels_last)
        tau = torch.rand(batch, 1, 1, 1, device=DEVICE) * .2 * (torch.rand(batch, 1, 1, 1, device=DEVICE) < .5)  # noise on half of the latents
        loss, squared, now = losses(x, *torch.randn(2, batch, 16, side // 8, side // 8, device=DEVICE), tau, deviation)
        deviation = deviation * .98 + now * .02
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, .5)
        optimiser.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(.999, step / (step + 20)))
        if step % 250 == 0:
            print(f'vae {step} dB {psnr(squared.item()):.2f}', flush=True)
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
        z = torch.cat([vae.encode(Renderer(DEVICE)(part, *PICTURE_SIZES[s]))[:, :16].float().transpose(0, 1).flatten(1) for s in range(4) for part in rows[s, :600].split(50)], 1)
    finish(vae, average, parameters, out, z.mean(1), z.std(1), step)


class DecoderLoss:
    """The decoder's loss on whole pictures, from latents as training and sampling leave them"""

    def __init__(self, vae, std, random):
        self.vae, self.std, self.random = vae, std.to(DEVICE)[None, :, None, None], random
        self.encode, self.decode = (torch.compile(f, dynamic=False) if GPU else f for f in (vae.encode, vae.decode))
        self.draw = Renderer(DEVICE, GPU)

    def spoilt(self, pictures):
        """Latents with the encoder's own noise, and with more of it on half of the pictures"""
        with torch.no_grad():
            h, u = self.encode(pictures), torch.rand(2, len(pictures), 1, 1, 1, device=DEVICE)
            mean, log_variance = h[:, :16], h[:, 16:].clamp(-20, 10)
            more = u[0] * .15 * (u[1] < .5) * self.std * torch.randn_like(mean)
            return mean + .5 * torch.exp(.5 * log_variance) * torch.randn_like(mean) * (u[1] < .8) + more

    def __call__(self, rows, size):
        rows = rows.copy()
        rows[self.random.random(len(rows)) < BLOTCH_SHARE, 0] = self.random.integers(len(COLOR_NAMES))
        empty = self.random.random(len(rows)) < EMPTY_SHARE
        rows[np.ix_(empty, SHAPE_AT)], rows[np.ix_(empty, WORD_AT)] = -1, 0
        pictures = self.draw(torch.tensor(rows, device=DEVICE), *PICTURE_SIZES[size])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        d = self.decode(self.spoilt(pictures)) - pictures
        return d.abs().mean() + .5 * edge_loss(d) + 1.5 * (d ** 2).mean(), (d ** 2).mean().detach()


def load_trained(out, model):
    """VAE, mean and deviation of the latents of a model folder, or of OUT_DIR/vae.pt"""
    if model:
        return load_vae(model)
    stored, vae = torch.load(out + '/vae.pt'), VAE(**VAE_CFG)
    vae.load_state_dict(stored['sd'])
    return vae, stored['mean'], stored['std']


def train_decoder(seconds, out, model=None):
    torch.manual_seed(0)
    workers, count, batch, choose = (8, 4000, 32, np.random.default_rng(0)) if GPU else (1, 10, 2, np.random.default_rng(0))
    with multiprocessing.get_context('fork').Pool(workers) as pool:
        rows = np.concatenate(pool.starmap(rows_of, [(4242 + i, count) for i in range(workers)]), 1)
    vae, mean, std = load_trained(out, model)
    vae.to(DEVICE).to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    print('before: held-out dB', json.dumps(held_out_psnr(vae)), flush=True)
    parameters = [p.requires_grad_(True) for p in (*vae.post_quant_conv.parameters(), *vae.decoder.parameters())]
    average, step, recent = [p.detach().clone() for p in parameters], 0, []
    optimiser = torch.optim.AdamW(parameters, lr=DECODER_RATE, betas=(.9, .95), weight_decay=0.)
    loss_of, start = DecoderLoss(vae, std, choose), time.time()
    while time.time() - start < seconds:
        for g in optimiser.param_groups:
            share = (time.time() - start) / seconds
            g['lr'] = DECODER_RATE * min(1, (step + 1) / 20) * (.5 + .5 * math.cos(math.pi * share))
        size = int(choose.choice(4, p=SIZE_SHARES))
        loss, squared = loss_of(rows[size, choose.integers(rows.shape[1], size=batch)], size)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, .3)
        optimiser.step()
        step, recent = step + 1, (recent + [squared])[-50:]
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(.995, step / (step + 5)))
        if step % 250 == 0:
            print(f'decoder {step} dB {psnr(torch.stack(recent).mean().item()):.2f}', flush=True)
    finish(vae, average, parameters, out, mean, std, step)


if __name__ == '__main__':
    os.makedirs(sys.argv[3], exist_ok=True)
    dict(windows=train_windows, decoder=train_decoder)[sys.argv[1]](float(sys.argv[2]), *sys.argv[3:])
