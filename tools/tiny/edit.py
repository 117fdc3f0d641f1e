"""Measures picture-to-picture and inpainting.

    python edit.py RUN_DIR|MODEL_DIR TOKENIZER_JSON CHECKER.safetensors OUT_DIR [COUNT]              with the networks of nets.py
    python edit.py diffusers MODEL_DIR CHECKER.safetensors OUT_DIR [COUNT]                           with diffusers' own pipelines, on a CPU

recolour: strength 0.5 from a render of the same shape in another colour; inpaint: one half of a render is masked and drawn again (strength 1). Right is
a picture that the checker reads as its caption says; kept, one whose shape covers the pixels of the true render (intersection over union at least 0.9).
Held-out scenes, 20 steps, CFG 4. Writes OUT_DIR/edit.json and a sheet each: start pictures above what was made of them."""
import json
import os
import sys

import numpy as np
import torch

import checker
from evaluate import contact_sheet, load
from render import Renderer
from sampler import Start, generate
from scenes import Scenes
from text import EMPTY_PROMPT, Text
from truth import faults, score
from variants import half_masks
from world import COLOR, COLOR_NAMES, PICTURE_SIZES, SHAPE_AT

STEPS, CFG, STRENGTH, LEAST_OVERLAP, SEEDS = 20, 4., .5, .9, (1000, 2000)
EDGE_STEP = .2  # of a colour's distance from the background that counts as shape


def scenes_to_edit(count, kinds):
    scenes = Scenes(20261126, held=True, styles=(1, 0))
    return [scenes.next(0, kinds[i % len(kinds)]) for i in range(count)]


def other_colour(row, caption, truth, random):
    """The caption, row and truth of the same scene with its first shape in another colour"""
    shape, row = truth['shapes'][0], row.copy()
    taken = {shape['color'], truth['background'], *(w['color'] for w in truth['words'])}
    color = random.choice([c for c in COLOR_NAMES if c not in taken])
    row[SHAPE_AT[0] + 1] = COLOR[color]
    caption = caption.replace(shape['color'], color, 1)
    return caption, row, dict(truth, caption=caption, shapes=[dict(shape, color=color)])


def covered(pictures):
    """Which pixels are not background (the colour of the corner)"""
    return (pictures - pictures[:, :, :1, :1]).abs().amax(1) > EDGE_STEP


def overlap(drawn, true):
    a, b = covered(drawn), covered(true)
    return ((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)).cpu()


def report(name, judge, drawn, true, starts, truths, out):
    read, kept = checker.predict(judge, list(drawn)), overlap(drawn, true)
    figures = dict(pictures=len(truths), right=score(read, truths)['everything'],
                   kept=round((kept >= LEAST_OVERLAP).float().mean().item(), 4), overlap=round(kept.mean().item(), 4))
    wrong = [f"{t['caption']} | {' '.join(faults(r, t))} | {k:.2f}" for t, r, k in zip(truths, read, kept) if faults(r, t) or k < LEAST_OVERLAP]
    print(name, json.dumps(figures), flush=True)
    rows = [p for k in range(0, len(drawn), 10) for p in (*starts[k:k + 10], *drawn[k:k + 10])]
    contact_sheet(rows, f'{out}/{name}.png')
    return dict(figures, wrong=wrong)


def by_networks(model, tokenizer, device):
    """A function (captions, seeds, Start) -> pictures"""
    text = Text(tokenizer)
    nets = load(model, text.tokenizer.get_vocab_size(), device)
    return lambda captions, seeds, start: generate(nets, text, captions, 0, STEPS, CFG, seeds, device, start)


def by_diffusers(model):
    """As by_networks"""
    from diffusers import QwenImageImg2ImgPipeline, QwenImageInpaintPipeline
    plain, masked = (p.from_pretrained(model, torch_dtype=torch.bfloat16).to(torch.float32) for p in (QwenImageImg2ImgPipeline, QwenImageInpaintPipeline))
    for pipe in (plain, masked):
        pipe.set_progress_bar_config(disable=True)

    def one(caption, seed, picture, mask, strength):
        pipe, more = (plain, {}) if mask is None else (masked, dict(mask_image=shown_mask(mask)[None, None]))
        width, height = PICTURE_SIZES[0]
        return pipe(caption, negative_prompt=EMPTY_PROMPT, true_cfg_scale=CFG, num_inference_steps=STEPS, width=width, height=height, strength=strength,
                    image=picture[None] * .5 + .5, generator=torch.Generator().manual_seed(seed), output_type='pt', **more).images[0] * 2 - 1

    def draw(captions, seeds, start):
        masks = [None] * len(captions) if start.masks is None else start.masks
        return torch.stack([one(c, s, p, m, start.strength) for c, s, p, m in zip(captions, seeds, start.pictures, masks)])
    return draw


def shown_mask(mask):
    """(256,) tokens of 16x16 pixels -> (256, 256) pixels"""
    return mask.view(16, 16).repeat_interleave(16, 0).repeat_interleave(16, 1).float()


def main(model, tokenizer, judge, out, count=60):
    through_diffusers = model == 'diffusers'
    device, count = 'cuda' if torch.cuda.is_available() and not through_diffusers else 'cpu', int(count)
    generate_from = by_diffusers(tokenizer) if through_diffusers else by_networks(model, tokenizer, device)
    judge, random, draw = checker.load(judge, device), np.random.default_rng(3), Renderer(device)
    os.makedirs(out, exist_ok=True)

    def rendered(rows):
        return draw(torch.tensor(np.stack(rows), device=device), *PICTURE_SIZES[0])

    before = scenes_to_edit(count, ('one', 'one', 'both'))
    captions, rows, truths = zip(*[other_colour(row, caption, truth, random) for caption, row, truth in before])
    starts = rendered([row for _, row, _ in before])
    drawn = generate_from(captions, range(SEEDS[0], SEEDS[0] + count), Start(starts, STRENGTH))
    result = dict(recolour=report('recolour', judge, drawn, rendered(rows), starts, truths, out))
    captions, rows, truths = zip(*scenes_to_edit(count, ('one', 'both', 'one', 'word')))
    whole, masks = rendered(rows), torch.tensor(half_masks(16, 16), device=device)[torch.arange(count) % 4]
    hidden = torch.stack([shown_mask(m) for m in masks])[:, None]
    drawn = generate_from(captions, range(SEEDS[1], SEEDS[1] + count), Start(whole, 1., masks))
    result['inpaint'] = report('inpaint', judge, drawn, whole, whole * (1 - hidden), truths, out)
    json.dump(result, open(out + '/edit.json', 'w'), indent=1, ensure_ascii=False)


if __name__ == '__main__':
    main(*sys.argv[1:])
