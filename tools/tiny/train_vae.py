"""Trains the VAE.

    python train_vae.py windows SECONDS OUT_DIR                 encoder and decoder from random weights, on windows of 192x192
    python train_vae.py decoder SECONDS OUT_DIR [MODEL_DIR]     the decoder alone, on whole pictures, from MODEL_DIR (a diffusers folder) or OUT_DIR/vae.pt
    python train_vae.py both SECONDS OUT_DIR MODEL_DIR [CLOSENESS] [RATE]     on whole pictures too; the latents are held close to those of MODEL_DIR
    python train_vae.py refit PICTURES OUT_DIR                  the decoder's last layer of OUT_DIR/vae.pt, solved for the least squared error
    python train_vae.py measure PICTURES MODEL_DIR              only the held-out figures of MODEL_DIR's VAE, of so many renders a size, then of so many others

All others write OUT_DIR/vae.pt (names as in nets.py, with the latents' mean and deviation) and print the held-out figures. `decoder` and `refit` leave the encoder,
and so the latents, as they are: they can run before, after or beside train_dit.py. Works on a CPU too (slowly; for tests)."""
import copy
import json
import math
import multiprocessing
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from nets import VAE, VAE_CFG
from render import Renderer, render, sizes_text
from scenes import Scenes
from weights import load_vae
from world import COLOR_NAMES, PICTURE_SIZES, ROW, SHAPE_AT, WORD_AT

GPU = torch.cuda.is_available()
DEVICE = 'cuda' if GPU else 'cpu'
WINDOW, KL_WEIGHT, WINDOW_RATE, WHOLE_RATE = 192, 5e-4, 2e-3, 5e-4
SIZE_SHARES = (.22, .14, .54, .1)  # of whole pictures; small letters in the narrow ones are the hardest
NARROW_CELL, NARROW_WEIGHT = 30, 3.  # letters less wide (pixels) come up more often
BATCH_SCALE = (1, 1, 1, .44)  # 384x384 has 2.25 times the pixels
BLOTCH_SHARE, EMPTY_SHARE = .3, .15  # of whole pictures: a background of any colour again; nothing but the background
SQUARED_WEIGHT = 12.  # beside the mean absolute error; makes edges, not flat colours, count
LOG_VARIANCE_SCALE = 3.  # differences of this size in log-variances weigh as a deviation in means does
TEST_SEED, VALIDATION_SEED = 77, 78
REFIT_SIZE, REFIT_SEED, REFIT_RIDGE, PLAIN_WEIGHT, PLAIN_SIDE = 2, 31337, 30., 20., 96  # the narrow pictures; plain ones count more, and are smaller


def rows_of(seed, count, held=False):
    """(4, count, ROW): scenes of every size"""
    scenes = Scenes(seed, held=held)
    return np.stack([np.stack([scenes.next(size)[1] for _ in range(count)]) for size in range(4)])


def plain_rows():
    """A picture of nothing but the background in every colour"""
    rows = torch.zeros(len(COLOR_NAMES), ROW, device=DEVICE)
    rows[:, 0], rows[:, list(SHAPE_AT)] = torch.arange(len(COLOR_NAMES), device=DEVICE).float(), -1.
    return rows


def psnr(squared_error):
    return 10 * math.log10(4 / max(squared_error, 1e-12))


def edge_loss(d):
    """Mean absolute difference of neighbours"""
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def narrow_weights(rows, size):
    """How often each row of a size is drawn, by the width of its letters"""
    cells = np.stack([np.where(rows[:, at] > 0, rows[:, at + 4], 9.) for at in WORD_AT]).min(0) * min(PICTURE_SIZES[size]) / 2
    weights = np.where(cells < NARROW_CELL, NARROW_WEIGHT, 1.)
    return weights / weights.sum()


@torch.no_grad()
def held_out_psnr(vae, seed=TEST_SEED, count=96 if GPU else 4):
    """dB on held-out renders of every size (the mean of the latents), and the worst plain colour"""
    rows, draw, result = torch.tensor(rows_of(seed, count, held=True), device=DEVICE), Renderer(DEVICE), {}
    for size, wh in enumerate(PICTURE_SIZES):
        for name, some in ((sizes_text(size), rows[size]), (sizes_text(size) + ' plain', plain_rows())):
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
    stored = {k: t.cpu().contiguous() for k, t in vae.state_dict().items()}
    with torch.no_grad():
        for p in vae.parameters():
            p.copy_(p.bfloat16())  # as it is shipped
    figures, validation = held_out_psnr(vae), held_out_psnr(vae, VALIDATION_SEED)
    print('held-out dB', json.dumps(figures), 'others', json.dumps(validation), 'steps', steps, flush=True)
    torch.save(dict(sd=stored, mean=mean.cpu(), std=std.cpu(), psnr=figures, validation=validation, steps=steps), out + '/vae.tmp')
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


class WholeLoss:
    """The loss on whole pictures, from latents as training and sampling leave them. closeness: of the encoder's output to what it was at first; None
    leaves the encoder as it is"""

    def __init__(self, vae, std, random, closeness):
        self.std, self.random, self.closeness = std.to(DEVICE)[None, :, None, None], random, closeness
        first = vae if closeness is None else copy.deepcopy(vae)
        self.first, self.encode, self.decode = (torch.compile(f, dynamic=False) if GPU else f for f in (first.encode, vae.encode, vae.decode))
        self.scale = torch.cat([self.std, torch.full_like(self.std, LOG_VARIANCE_SCALE)], 1)
        self.draw = Renderer(DEVICE, GPU)

    def spoilt(self, mean, log_variance):
        """Latents with the encoder's own noise, and with more of it on half of the pictures"""
        u = torch.rand(2, len(mean), 1, 1, 1, device=DEVICE)
        more = u[0] * .15 * (u[1] < .5) * self.std * torch.randn_like(mean)
        return mean + .5 * torch.exp(.5 * log_variance.clamp(-20, 10)) * torch.randn_like(mean) * (u[1] < .8) + more

    def __call__(self, rows, size):
        rows = rows.copy()
        rows[self.random.random(len(rows)) < BLOTCH_SHARE, 0] = self.random.integers(len(COLOR_NAMES))
        empty = self.random.random(len(rows)) < EMPTY_SHARE
        rows[np.ix_(empty, SHAPE_AT)], rows[np.ix_(empty, WORD_AT)] = -1, 0
        pictures = self.draw(torch.tensor(rows, device=DEVICE), *PICTURE_SIZES[size])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            first = self.first(pictures)
        latents = first if self.closeness is None else self.encode(pictures)
        d = self.decode(self.spoilt(latents[:, :16], first[:, 16:])) - pictures
        squared = (d ** 2).mean()
        loss = d.abs().mean() + .5 * edge_loss(d) + SQUARED_WEIGHT * squared
        if self.closeness is not None:
            loss = loss + self.closeness * ((latents - first) / self.scale).square().mean()
        return loss, squared.detach()


def load_trained(out, model):
    """VAE, mean and deviation of the latents of a model folder, or of OUT_DIR/vae.pt"""
    if model:
        return load_vae(model)
    stored, vae = torch.load(out + '/vae.pt'), VAE(**VAE_CFG)
    vae.load_state_dict(stored['sd'])
    return vae, stored['mean'], stored['std']


def train_whole(seconds, out, model=None, closeness=None, rate=WHOLE_RATE):
    torch.manual_seed(0)
    workers, count, batch, choose = (8, 4000, 32, np.random.default_rng(0)) if GPU else (1, 10, 2, np.random.default_rng(0))
    with multiprocessing.get_context('fork').Pool(workers) as pool:
        rows = np.concatenate(pool.starmap(rows_of, [(4242 + i, count) for i in range(workers)]), 1)
    weights = [narrow_weights(rows[size], size) for size in range(4)]
    vae, mean, std = load_trained(out, model)
    vae.to(DEVICE).to(memory_format=torch.channels_last)
    print('before: held-out dB', json.dumps(held_out_psnr(vae)), flush=True)
    loss_of = WholeLoss(vae, std, choose, closeness)
    if closeness is None:
        vae.requires_grad_(False)
        parameters = [p.requires_grad_(True) for p in (*vae.post_quant_conv.parameters(), *vae.decoder.parameters())]
    else:
        parameters = list(vae.parameters())
    average, step, recent, start = [p.detach().clone() for p in parameters], 0, [], time.time()
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(.9, .95), weight_decay=0.)
    while time.time() - start < seconds:
        for g in optimiser.param_groups:
            share = (time.time() - start) / seconds
            g['lr'] = rate * min(1, (step + 1) / 20) * (.5 + .5 * math.cos(math.pi * share))
        size = int(choose.choice(4, p=SIZE_SHARES))
        loss, squared = loss_of(rows[size, choose.choice(rows.shape[1], max(1, int(batch * BATCH_SCALE[size])), p=weights[size])], size)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, .3)
        optimiser.step()
        step, recent = step + 1, (recent + [squared])[-50:]
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(.995, step / (step + 5)))
        if step % 250 == 0:
            print(f'whole {step} dB {psnr(torch.stack(recent).mean().item()):.2f} {time.time() - start:.0f} s', flush=True)
    finish(vae, average, parameters, out, mean, std, step)


def train_both(seconds, out, model, closeness=.1, rate=WHOLE_RATE):
    train_whole(seconds, out, model, float(closeness), float(rate))


def normal_equations(vae, pictures):
    """Of the decoder's last layer, a convolution of 3x3: what goes into it times itself and times the error left, summed over all pixels"""
    taken = {}
    hook = vae.decoder.conv_out.register_forward_pre_hook(lambda layer, inputs: taken.update(x=inputs[0]))
    left = pictures - vae.decode(vae.encode(pictures)[:, :16])
    hook.remove()
    columns = F.unfold(taken['x'], 3, padding=1)
    columns = torch.cat([columns, torch.ones_like(columns[:, :1])], 1).double()  # the bias
    return (columns @ columns.mT).sum(0), (columns @ left.flatten(2).double().mT).sum(0)


def rounded(weights, hessian):
    """To bf16, one input after the other; those that follow make up for the error (Frantar et al., arXiv 2210.17323)"""
    factor, weights, result = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True), weights.clone(), torch.zeros_like(weights)
    for i in range(len(weights)):
        result[i] = weights[i].float().bfloat16().double()
        weights[i + 1:] -= factor[i, i + 1:, None] * ((weights[i] - result[i]) / factor[i, i])[None]
    return result


@torch.no_grad()
def refit(count, out):
    """Least squares; the other weights count as they are shipped, rounded to bf16"""
    vae, mean, std = load_trained(out, None)
    for p in vae.to(DEVICE).parameters():
        p.copy_(p.bfloat16())
    rows, draw, layer = torch.tensor(rows_of(REFIT_SEED, int(count))[REFIT_SIZE], device=DEVICE), Renderer(DEVICE), vae.decoder.conv_out
    sums = [normal_equations(vae, draw(part, *PICTURE_SIZES[REFIT_SIZE])) for part in rows.split(4)]
    plain = [normal_equations(vae, draw(part, PLAIN_SIDE, PLAIN_SIDE)) for part in plain_rows().split(4)]
    hessian, product = (sum(s[k] for s in sums) + PLAIN_WEIGHT * sum(s[k] for s in plain) for k in (0, 1))
    hessian += REFIT_RIDGE * torch.eye(len(hessian), device=DEVICE)
    weights = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).mT.double() + torch.linalg.solve(hessian, product)
    weights = rounded(weights, hessian).float()
    layer.weight.copy_(weights[:-1].mT.view_as(layer.weight)), layer.bias.copy_(weights[-1])
    parameters = list(vae.parameters())
    finish(vae, [p.clone() for p in parameters], parameters, out, mean, std, int(count))


def measure(count, model):
    vae = load_vae(model)[0].to(DEVICE).eval()
    for seed, name in ((TEST_SEED, 'held-out dB'), (VALIDATION_SEED, 'others')):
        print(name, json.dumps(held_out_psnr(vae, seed, int(count))), flush=True)


if __name__ == '__main__':
    os.makedirs(sys.argv[3], exist_ok=True)
    dict(windows=train_windows, decoder=train_whole, both=train_both, refit=refit, measure=measure)[sys.argv[1]](float(sys.argv[2]), *sys.argv[3:])
