"""Trains transformer and text encoder together.

    python train_dit.py SECONDS OUT_DIR TOKENIZER_JSON --vae MODEL_DIR [--gpus N] [--init MODEL_DIR] [--wait VAE_PT] ...

Takes the VAE from MODEL_DIR (a diffusers folder), fills a pool of latents on every GPU (drawn, encoded and tokenised while training goes on) and writes
OUT_DIR/ckpt.pt (averaged weights) every 45 s and, unless another is waited for, that VAE as OUT_DIR/vae.pt. --init continues from a model folder; its
embedding is carried over to the new tokenizer. --wait: a vae.pt that another process is still training; everything is compiled meanwhile with the VAE of
MODEL_DIR. A unix time in the file OUT_DIR/deadline, read again and again, takes the place of SECONDS. Works on a CPU too (slowly; for tests)."""
import argparse
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import torch
import torch._dynamo
import torch.distributed as dist
import torch.nn.functional as F

import nets
from nets import DIT_CFG, TE_CFG, DiT, TextEncoder, rope_tables
from nets import sigmas as schedule
from optimiser import Muon
from pool import SHARES, Pool, work
from text import PROMPT_TOKENS, TEMPLATE_TOKENS, TEXT_TOKENS, Text
from variants import HALF, half_masks
from weights import load_generator, load_vae, remap_embedding
from world import PICTURE_SIZES

torch._dynamo.config.recompile_limit = 64
GPU, START = torch.cuda.is_available(), time.time()
RANK, WORLD, LOCAL = (int(os.environ.get(k, d)) for k, d in (('RANK', 0), ('WORLD_SIZE', 1), ('LOCAL_RANK', 0)))
DEVICE = f'cuda:{LOCAL}' if GPU else 'cpu'
WARM_UP_STEPS, COMPILE_STEPS, CLOCK_STEPS = 300, 8, 20
SHIFT = math.exp(.5)  # of the scheduler at these sizes
START_SIGMAS = (.4, .95)  # where picture-to-picture starts, in training
FEW_STEPS = 4  # the schedule whose sigmas come up more often (but for the last, which is nearly nothing)
BATCH_SCALE = (1, 1, 1, .44)  # 384x384 has 2.25 times the tokens


def say(*words):
    if RANK == 0:
        print(f'[{time.time() - START:6.1f}]', *words, flush=True)


def compiled(f):
    return torch.compile(f, dynamic=False) if GPU else f


class Networks:
    """Transformer and text encoder, their trainable parameters by name, and an average of these"""

    def __init__(self, arguments, vocabulary):
        self.encoder, self.dit = TextEncoder(vocabulary, **TE_CFG).to(DEVICE), DiT(**DIT_CFG).to(DEVICE)
        everything = [('te.' + n, p) for n, p in self.encoder.named_parameters()] + [('dit.' + n, p) for n, p in self.dit.named_parameters()]
        last = f'dit.transformer_blocks.{len(self.dit.transformer_blocks) - 1}.'
        idle = (last + 'txt_mlp', last + 'attn.to_add_out')  # the last block's text goes nowhere: these weights stay zero
        for n, p in everything:
            if n.startswith(idle):
                p.data.zero_().requires_grad_(False)
        self.shapes = {n: list(p.shape) for n, p in everything}
        self.names, self.parameters = zip(*[(n, p) for n, p in everything if not n.startswith(idle)])
        if arguments.init:
            self._load(arguments)
        self.average = [p.detach().clone() for p in self.parameters]
        matrices = [p for n, p in zip(self.names, self.parameters)
                    if p.dim() == 2 and 'embed' not in n and ('layers.' in n or 'transformer_blocks' in n) and '_mod.' not in n]
        chosen = {id(p) for p in matrices}
        self.optimiser = Muon(matrices, [p for p in self.parameters if id(p) not in chosen], compiled=GPU)

    @torch.no_grad()
    def _load(self, arguments):
        stored, table = load_generator(arguments.init), 'te.embed_tokens.weight'
        stored[table] = remap_embedding(stored[table], arguments.init + '/tokenizer/tokenizer.json', arguments.tokenizer)
        for n, p in zip(self.names, self.parameters):
            p.copy_(stored[n])
        say('continuing from', arguments.init)

    @torch.no_grad()
    def update_average(self, step, power=14.):
        """Power-law average (Karras et al., arXiv 2312.02696)"""
        torch._foreach_lerp_(self.average, self.parameters, 1 - (1 - 1 / (step + 1)) ** (power + 1))

    def save(self, path, **figures):
        state = {n: a.bfloat16().cpu() for n, a in zip(self.names, self.average)}
        torch.save(dict(average=state, shapes=self.shapes, **figures), path + '.tmp')
        os.replace(path + '.tmp', path)


class Loss:
    """Flow matching: the velocity noise - latents at a random sigma"""

    def __init__(self, networks, uniform, few):
        self.n, self.uniform, self.few, dit = networks, uniform, few, networks.dit
        self.few_sigmas = [torch.tensor(schedule(FEW_STEPS, w * h // 256)[:FEW_STEPS - 1], device=DEVICE).float() for w, h in PICTURE_SIZES]
        self.blocks = [compiled(_Block(b)) for b in dit.transformer_blocks]
        self.front, self.back, self.mix, self.encoder = compiled(self._front), compiled(self._back), compiled(self._mix), compiled(networks.encoder)
        self.rope = [rope_tables(h // 16, w // 16, PROMPT_TOKENS, dit.axes, DEVICE) for w, h in PICTURE_SIZES]
        self.text_rope = networks.encoder.rope(TEXT_TOKENS, DEVICE)
        self.halves = [torch.tensor(half_masks(h // 16, w // 16), device=DEVICE) for w, h in PICTURE_SIZES]

    @staticmethod
    def _mix(latents, noise, sigma):
        latents, s = latents.float(), sigma[:, None, None]
        return (1 - s) * latents + s * noise, noise - latents

    def _front(self, x, states, sigma):
        dit = self.n.dit
        return dit.img_in(x), dit.txt_in(dit.txt_norm(states)), dit.time_text_embed(sigma)

    def _back(self, h, temb, velocity):
        dit = self.n.dit
        scale, shift = dit.norm_out.linear(F.silu(temb)).chunk(2, -1)
        return F.mse_loss(dit.proj_out(nets.ln(h, shift, scale)).float(), velocity)

    def sigmas(self, size, count, generator):
        """Logit-normal, shifted as the scheduler shifts, with a uniform share and one of a schedule of few steps"""
        def some(f):
            return f(count, device=DEVICE, generator=generator)
        u = torch.sigmoid(some(torch.randn)).clamp(1e-4, 1 - 1e-4)
        few = self.few_sigmas[size][torch.randint(FEW_STEPS - 1, (count,), device=DEVICE, generator=generator)]
        sigma = torch.where(some(torch.rand) < self.uniform, some(torch.rand).clamp(1e-3, 1), SHIFT / (SHIFT + 1 / u - 1))
        return torch.where(some(torch.rand) < self.few, few, sigma)

    def start_elsewhere(self, size, latents, other, where, noise, sigma, generator):
        """Picture-to-picture for the first of the batch: at a start sigma s0 the picture is another one, of which a straight path leads to the wanted one.
        That is flow matching with noise + (1 - s0) / s0 (other - wanted) in place of the noise, for sigmas up to s0"""
        n = len(other)

        def some(*shape):
            return torch.rand(*shape, device=DEVICE, generator=generator)
        start = START_SIGMAS[0] + (START_SIGMAS[1] - START_SIGMAS[0]) * some(n)
        side = self.halves[size][torch.randint(4, (n,), device=DEVICE, generator=generator)]
        mask = torch.where((where == HALF)[:, None], side, 1.)[:, :, None]
        noise[:n] += ((1 - start) / start)[:, None, None] * mask * (other.float() - latents[:n].float())
        sigma[:n] = start * (1 - some(n) ** 2 * .98)  # most near the start

    def __call__(self, size, batch, generator):
        latents, ids, lengths, other, where = batch
        sigma, noise = self.sigmas(size, len(latents), generator), torch.randn(latents.shape, device=DEVICE, generator=generator)
        self.start_elsewhere(size, latents, other, where, noise, sigma, generator)
        x, velocity = self.mix(latents, noise, sigma)
        tokens = latents.shape[1]
        mask = (torch.arange(tokens + PROMPT_TOKENS, device=DEVICE)[None] < (tokens + lengths)[:, None])[:, None, None]
        with torch.autocast(DEVICE.split(':')[0], torch.bfloat16):
            h, e, temb = self.front(x, self.encoder(ids, self.text_rope)[:, TEMPLATE_TOKENS:], sigma)
            for block in self.blocks:
                h, e = block(h, e, temb, mask, *self.rope[size])
            return self.back(h, temb, velocity)


class _Block(torch.nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, h, e, temb, mask, cos, sin):
        total = h.shape[1] + e.shape[1]

        def attend(q, k, v):
            return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask.expand(-1, 1, total, -1)).transpose(1, 2)
        return self.block(h, e, temb, attend, cos, sin)


class Clock:
    """Which share of the time is over, the same on every GPU"""

    def __init__(self, out, seconds):
        self.path, self.seconds, self.start, self.share = out + '/deadline', seconds, None, 0.

    def begin(self):
        self.start = time.time()

    def look(self):
        end = float(open(self.path).read()) if os.path.exists(self.path) else self.start + self.seconds
        share = torch.tensor([(time.time() - self.start) / max(1e-3, end - self.start)], device=DEVICE)
        if WORLD > 1:
            dist.broadcast(share, 0)
        self.share = share.item()
        return self.share < 1

    def rate(self, step, hold):
        """Warm-up, constant, then linearly down to 2 %"""
        down = 1. if self.share < hold else max(0., (1 - self.share) / (1 - hold)) * .98 + .02
        return min(1, step / WARM_UP_STEPS) * down


def average_gradients(parameters):
    gradients = [p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= WORLD
    torch._foreach_copy_(gradients, [v.view_as(g) for v, g in zip(flat.split([g.numel() for g in gradients]), gradients)])


def open_pool(arguments, vae, mean, std):
    context, chunk = multiprocessing.get_context('fork'), 1024 if GPU else 8
    queue = context.Queue(48)
    for k in range(arguments.workers):
        context.Process(target=work, args=(arguments.seed * 100000 + 10000 * RANK + k, queue, arguments.tokenizer, chunk), daemon=True).start()
    if GPU:
        torch.cuda.set_device(LOCAL)
        vae.to(DEVICE)
    if WORLD > 1:
        dist.init_process_group('nccl' if GPU else 'gloo')
    return Pool(arguments.pool, queue, vae, mean, std, DEVICE, 256 if GPU else 8, chunk, GPU)


def wait_for(path):
    say('waiting for', path)
    while not os.path.exists(path):
        time.sleep(.2)
    return torch.load(path, map_location='cpu')['sd']


def train(arguments):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    vae, mean, std = load_vae(arguments.vae)
    if RANK == 0 and not arguments.wait:
        torch.save(dict(sd=vae.state_dict(), mean=mean, std=std), arguments.out + '/vae.pt')
    vae = vae.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    pool = open_pool(arguments, vae, mean, std)
    pool.fill(1 if arguments.wait else arguments.start)
    say('pool', pool.filled)
    torch.manual_seed(arguments.seed)
    networks = Networks(arguments, Text(arguments.tokenizer).tokenizer.get_vocab_size())
    loss_of, clock, parameters = Loss(networks, arguments.uniform, arguments.few), Clock(arguments.out, arguments.seconds), list(networks.parameters)
    generator, order = torch.Generator(DEVICE).manual_seed(1000 * arguments.seed + RANK + 1), np.random.default_rng(1)
    shares, step, seen, running, saved = np.array(SHARES) / sum(SHARES), 0, 0, 0., time.time()
    figures = {}
    while True:
        if step == COMPILE_STEPS:
            say('compiled')
            if arguments.wait:
                pool.restart(wait_for(arguments.wait), arguments.start)
                say('pool', pool.filled)
            clock.begin()
        if step >= COMPILE_STEPS and (step % CLOCK_STEPS == 0 or step == COMPILE_STEPS) and not clock.look():
            break
        size = int(order.choice(4, p=shares)) if step >= COMPILE_STEPS else step % 4
        batch = max(1, int(arguments.batch * BATCH_SCALE[size]))
        loss = loss_of(size, pool.draw(size, batch, int(batch * arguments.paired), generator), generator)
        loss.backward()
        if WORLD > 1:
            average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.)
        rate = clock.rate(step, arguments.hold)
        networks.optimiser.step(arguments.rate * rate, arguments.adam_rate * rate)
        for p in parameters:
            p.grad = None
        step, seen, running = step + 1, seen + batch * WORLD, running + loss.detach()
        networks.update_average(step)
        if step % arguments.refresh == 0:
            pool.add()
        if step % arguments.log == 0 and clock.start:
            figures = dict(steps=step, seen=seen, loss=round((running / arguments.log).item(), 5), made=pool.made * WORLD, seconds=round(time.time() - clock.start))
            running = 0.
            say(json.dumps(figures), f'gradient {norm.item():.2f} done {clock.share:.3f}')
        if RANK == 0 and time.time() - saved > arguments.save_every:
            networks.save(arguments.out + '/ckpt.pt', figures=figures)
            saved = time.time()
    if RANK == 0:
        figures.update(steps=step, seen=seen, gpus=WORLD, memory_gib=round(torch.cuda.max_memory_allocated() / 2 ** 30, 1) if GPU else 0)
        say('trained', json.dumps(figures))
        networks.save(arguments.out + '/ckpt.pt', figures=figures)
        open(arguments.out + '/trained', 'w').write(json.dumps(figures))
    if WORLD > 1:
        dist.barrier()
        dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # the workers wait in full queues


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add('seconds', type=float), add('out'), add('tokenizer'), add('--vae', required=True), add('--init')
    add('--gpus', type=int, default=1), add('--batch', type=int, default=512, help='pictures a GPU'), add('--seed', type=int, default=1)
    add('--rate', type=float, default=2e-3, help='of Muon'), add('--adam_rate', type=float, default=1.2e-3), add('--hold', type=float, default=.5, help='share of the time at full rate')
    add('--pool', type=int, default=600000, help='scenes on each GPU'), add('--start', type=int, default=200000, help='of them before training starts')
    add('--refresh', type=int, default=16, help='steps for each fresh chunk of 1,024'), add('--workers', type=int, default=8)
    add('--uniform', type=float, default=.35, help='share of uniform sigmas'), add('--few', type=float, default=.15, help='share of sigmas of a schedule of few steps'),
    add('--wait', help='a vae.pt to come'), add('--paired', type=float, default=.1, help='share trained for picture-to-picture')
    add('--log', type=int, default=400), add('--save_every', type=float, default=45)
    return p.parse_args()


if __name__ == '__main__':
    given = parse()
    os.makedirs(given.out, exist_ok=True)
    if given.gpus > 1 and 'RANK' not in os.environ:
        common = dict(os.environ, WORLD_SIZE=str(given.gpus), MASTER_ADDR='127.0.0.1', MASTER_PORT='29517')
        ranks = [subprocess.Popen([sys.executable] + sys.argv, env=dict(common, RANK=str(r), LOCAL_RANK=str(r))) for r in range(given.gpus)]
        sys.exit(max(r.wait() for r in ranks))
    train(given)
