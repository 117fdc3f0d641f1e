"""What a lossy option costs in pictures: PSNR and SSIM of pictures with it against those without, on held-out captions, and of how many the checker finds
everything right, with it and without.

    python fidelity.py PROGRAM MODEL_DIR LIST.json OUT_DIR [--captions N] [--steps N] [--threads N] [--outliers FACTOR] [--options='OPTION ...']
                       [--exact='OPTION ...'] [--unrounded SEED]

PROGRAM: the built `inkstone`; LIST.json: one of tests/data/checker, with the checker beside it. Draws N captions (default 32), spread evenly over the list, with the seed of their
index, once as they are and once with the options (such as --options='--arithmetic int8'). Pictures stay in OUT_DIR and are not drawn again by a second run.
--exact: options of the others, such as --exact='--device cuda --dtype f32'.
--outliers: of a copy of the model with the same function, in which one channel in 48 is FACTOR times larger on its way into a linear layer and the layer's
weights for it smaller in turn: after both norms of both streams, and between the values and the output projection.
--unrounded: the others are of a model in f32 that MODEL_DIR is the rounding of to bf16: each number lies anywhere within half a unit of its last place. So
the figures are what that rounding costs."""
import argparse
import glob
import json
import os
import shutil
import subprocess

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import conv2d

import checker
from truth import score

SPACING, FIRST = 48, 7  # of the channels with outliers
WINDOW, SIGMA, C1, C2 = 11, 1.5, .01 ** 2, .03 ** 2  # of SSIM (Wang et al., 2004), for numbers of [0, 1]
STREAMS = (('img', ('to_q', 'to_k', 'to_v'), 'to_out.0'), ('txt', ('add_q_proj', 'add_k_proj', 'add_v_proj'), 'to_add_out'))
BF16_DIGITS = 8  # of the significand, its leading one among them
TRANSFORMER = 'transformer/diffusion_pytorch_model.safetensors'


def psnr(a, b):
    return -10 * np.log10(max(np.mean((a - b) ** 2), 1e-12))


def ssim(a, b):
    bell = torch.exp(-(torch.arange(WINDOW) - WINDOW // 2) ** 2 / (2 * SIGMA ** 2)).double()
    kernel = (bell[:, None] * bell / bell.sum() ** 2)[None, None]
    blur = lambda x: conv2d(torch.from_numpy(x).permute(2, 0, 1)[:, None], kernel).numpy()
    ma, mb = blur(a), blur(b)
    va, vb, both = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    return np.mean((2 * ma * mb + C1) * (2 * both + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2)))


def plant(weights, factor):
    """Scales channels of what feeds layers, and unscales the layers"""
    width = weights['img_in.weight'].shape[0]
    scale = torch.ones(width)
    scale[FIRST::SPACING] = factor
    blocks = {name.split('.')[1] for name in weights if name.startswith('transformer_blocks.')}
    for block in (f'transformer_blocks.{i}.' for i in blocks):
        for stream, qkv, out in STREAMS:
            weight, bias = (weights[f'{block}{stream}_mod.1.{kind}'].view(6, width, -1) for kind in ('weight', 'bias'))
            for half in (0, 3):  # shift, scale and gate of the norm before attention, then of the one before the MLP
                weight[half:half + 2] *= scale[:, None]
                bias[half:half + 2] *= scale[:, None]
                bias[half + 1] += scale[:, None] - 1  # the norm's output is multiplied by 1 + scale
            for layer in (*(f'attn.{name}' for name in qkv), f'{stream}_mlp.net.0.proj', f'attn.{out}'):
                weights[f'{block}{layer}.weight'] /= scale
            for kind in ('weight', 'bias'):
                weights[f'{block}attn.{qkv[2]}.{kind}'].view(width, -1).mul_(scale[:, None])


def planted(model, folder, factor):
    """-> folder of a model with outliers"""
    if not os.path.exists(folder):
        shutil.copytree(model, folder + '.part')
        weights = {k: v.float() for k, v in load_file(f'{model}/{TRANSFORMER}').items()}
        plant(weights, factor)
        save_file(weights, f'{folder}.part/{TRANSFORMER}', {'format': 'pt'})
        os.rename(folder + '.part', folder)
    return folder


def unround(rounded, random):
    """f32 numbers that become the given ones of bf16 when they are rounded"""
    _, exponent = torch.frexp(rounded.float())
    drawn = rounded.float() + (torch.rand(rounded.shape, generator=random) - .5) * torch.exp2(exponent.float() - BF16_DIGITS)
    return torch.where(drawn.bfloat16() == rounded, drawn, rounded.float())


def unrounded(model, folder, seed):
    """-> folder of a model in f32 that is rounded to the given one"""
    if not os.path.exists(folder):
        shutil.copytree(model, folder + '.part')
        random = torch.Generator().manual_seed(seed)
        for file in sorted(glob.glob(f'{folder}.part/*/*.safetensors')):
            save_file({k: unround(v, random) if v.dtype == torch.bfloat16 else v for k, v in load_file(file).items()}, file, {'format': 'pt'})
        os.rename(folder + '.part', folder)
    return folder


def draw(arguments, model, truth, options, path):
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run([arguments.program, 'generate', '--model', model, '--prompt', truth['caption'], '--size', f"{truth['width']}x{truth['height']}",
                        '--steps', str(arguments.steps), '--seed', str(truth['index']), '--threads', str(arguments.threads), '--quiet', '--output', path, *options],
                       check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(path).convert('RGB'), np.float64) / 255


def share_right(judge, truths, folder):
    """Of a folder's pictures, how many have all that was asked for"""
    return score(checker.predict(judge, checker.read_pictures(truths, folder)[1]), truths)['everything']


def summary(values):
    return dict(median=round(float(np.median(values)), 4), tenth_percentile=round(float(np.percentile(values, 10)), 4), least=round(min(values), 4))


def main(arguments):
    with open(arguments.list, encoding='utf8') as file:
        truths = json.load(file)
    truths = truths[::max(len(truths) // arguments.captions, 1)][:arguments.captions]
    model, name = arguments.model, '-'.join(o.strip('-') for o in arguments.options)
    if arguments.outliers:
        model, name = planted(model, f'{arguments.out}/model-{arguments.outliers:g}', arguments.outliers), f'{name}-outliers-{arguments.outliers:g}'
    exact_model, exact_name = arguments.model, 'exact'
    if arguments.unrounded is not None:
        exact_name = f'unrounded-{arguments.unrounded}'
        exact_model, name = unrounded(model, f'{arguments.out}/model-{exact_name}', arguments.unrounded), f'{name}bf16-beside-{exact_name}'
    figures = []
    for t in truths:
        exact = draw(arguments, exact_model, t, arguments.exact, f"{arguments.out}/{exact_name}/{t['index']:03d}.png")
        lossy = draw(arguments, model, t, arguments.options, f"{arguments.out}/{name}/{t['index']:03d}.png")
        figures.append((psnr(exact, lossy), float(ssim(exact, lossy))))
    values = list(zip(*figures))
    judge = checker.load(f'{os.path.dirname(arguments.list)}/checker.safetensors')
    right = {which: share_right(judge, truths, f'{arguments.out}/{folder}') for which, folder in (('right', name), ('right_exact', exact_name))}
    print(name, json.dumps(dict(captions=len(truths), psnr=summary(values[0]), ssim=summary(values[1]), **right)))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument in ('program', 'model', 'list', 'out'):
        p.add_argument(argument)
    p.add_argument('--options', type=str.split, default=[])
    p.add_argument('--exact', type=str.split, default=[])
    p.add_argument('--captions', type=int, default=32)
    p.add_argument('--steps', type=int, default=20)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--outliers', type=float)
    p.add_argument('--unrounded', type=int)
    main(p.parse_args())
