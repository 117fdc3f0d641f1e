"""Draws and scores the caption lists with the networks of nets.py, on a GPU if there is one.

    python evaluate.py RUN_DIR|MODEL_DIR TOKENIZER_JSON CHECKER.safetensors LISTS_DIR OUT_DIR [STEPS:CFG ...] [--lists NAME ...] [--ignore-case] [--limit N]

RUN_DIR holds vae.pt and ckpt.pt; a MODEL_DIR (diffusers folder) holds transformer/ and so on. Weights are rounded to bf16, as they are shipped.
The noise is that of engine.py. Writes OUT_DIR/evaluation.json and one sheet of pictures a list."""
import argparse
import json
import os
import time

import torch
from PIL import Image

import checker
from nets import DIT_CFG, TE_CFG, VAE, VAE_CFG, DiT, TextEncoder
from render import to_image
from sampler import draw_all
from text import Text
from truth import faults, score
from weights import load_generator, load_vae

LISTS = ('world', 'case', 'loose', 'loose_unseen', 'loose_later', 'outside', 'outside_unseen', 'two', 'uncolored', 'combined', 'later8', 'large')
COLUMNS = 10


def load(folder, vocabulary, device):
    if os.path.exists(folder + '/ckpt.pt'):
        stored, state = torch.load(folder + '/vae.pt', map_location='cpu'), torch.load(folder + '/ckpt.pt', map_location='cpu')
        vae, mean, std = VAE(**VAE_CFG), stored['mean'], stored['std']
        vae.load_state_dict({k: v.bfloat16().float() for k, v in stored['sd'].items()})
        weights = {n: state['average'].get(n, torch.zeros(s)).float() for n, s in state['shapes'].items()}
    else:
        vae, mean, std = load_vae(folder)
        weights = load_generator(folder)
    encoder, dit = TextEncoder(vocabulary, **TE_CFG), DiT(**DIT_CFG)
    for prefix, net in (('te.', encoder), ('dit.', dit)):
        net.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return [x.to(device).eval() for x in (encoder, dit, vae)] + [mean, std]


def lists_in(folder):
    return [name for name in LISTS if os.path.exists(f'{folder}/{name}.json')]


def contact_sheet(pictures, path, side=128):
    sheet = Image.new('RGB', (COLUMNS * side, (len(pictures) + COLUMNS - 1) // COLUMNS * side), (90, 90, 90))
    for i, p in enumerate(pictures):
        image = to_image(p)
        image.thumbnail((side - 4, side - 4))
        sheet.paste(image, (i % COLUMNS * side, i // COLUMNS * side))
    sheet.save(path)


def main(a):
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    text = Text(a.tokenizer)
    nets, judge, result = load(a.model, text.tokenizer.get_vocab_size(), device), checker.load(a.checker, device), {}
    os.makedirs(a.out, exist_ok=True)
    for setting in a.settings or ['20:4']:
        steps, cfg = int(setting.split(':')[0]), float(setting.split(':')[1])
        for name in a.lists or lists_in(a.lists_folder):
            truths, start = json.load(open(f'{a.lists_folder}/{name}.json'))[:a.limit], time.time()
            pictures = draw_all(nets, text, truths, steps, cfg, device)
            read = checker.predict(judge, pictures)
            report = score(read, truths, a.ignore_case)
            report['faults'] = [f"{t['index']} {t['caption']} | {' '.join(faults(r, t))}" for t, r in zip(truths, read) if faults(r, t)]
            result[f'{name} {setting}'] = report
            print(f'{time.time() - start:.1f} s', name, setting, json.dumps({k: v for k, v in report.items() if k != 'faults'}), flush=True)
            if setting == (a.settings or ['20:4'])[0]:
                contact_sheet(pictures, f'{a.out}/{name}.png')
            json.dump(result, open(a.out + '/evaluation.json', 'w'), indent=1, ensure_ascii=False)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('model', 'tokenizer', 'checker', 'lists_folder', 'out'):
        p.add_argument(name)
    p.add_argument('settings', nargs='*')
    p.add_argument('--lists', nargs='+', help='without it all that are there')
    p.add_argument('--ignore-case', action='store_true')
    p.add_argument('--limit', type=int)
    main(p.parse_args())
