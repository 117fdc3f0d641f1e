"""Draws the caption lists with Inkstone itself, on a CPU, and scores them: the figures of the model card.

    python engine.py PROGRAM MODEL_DIR CHECKER.safetensors LISTS_DIR OUT_DIR [STEPS:CFG ...] [--lists NAME ...] [--jobs N] [--threads N] [--ignore-case]

PROGRAM: the built `inkstone`. The seed of a picture is its index in the list. Pictures stay in OUT_DIR/STEPS-CFG/LIST and are not drawn again by a second
run. Without --lists every list in LISTS_DIR is drawn. Writes OUT_DIR/engine.json. About 0.7 s a picture of 20 steps with CFG on two quiet cores."""
import argparse
import concurrent.futures
import json
import os
import subprocess
import time

import checker
from evaluate import contact_sheet, lists_in
from truth import faults, score


def generate(program, model, truth, steps, cfg, path, threads=2):
    """One picture in a process of its own; its seed is the caption's index"""
    if os.path.exists(path):
        return
    size = f"{truth['width']}x{truth['height']}"
    subprocess.run([program, 'generate', '--model', model, '--prompt', truth['caption'], '--size', size, '--steps', steps, '--cfg', cfg,
                    '--seed', str(truth['index']), '--threads', str(threads), '--quiet', '--output', path], check=True, stdout=subprocess.DEVNULL)


def measure(arguments, judge, name, setting):
    """Draws and scores one list"""
    steps, cfg = setting.split(':')
    folder = f'{arguments.out}/{steps}-{cfg}/{name}'
    os.makedirs(folder, exist_ok=True)
    with open(f'{arguments.lists_folder}/{name}.json', encoding='utf8') as file:
        truths = json.load(file)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(generate, arguments.program, arguments.model, t, steps, cfg, f"{folder}/{t['index']:03d}.png", arguments.threads) for t in truths]
        for one in waiting:
            one.result()
    truths, pictures = checker.read_pictures(truths, folder)
    read = checker.predict(judge, pictures)
    contact_sheet(pictures, f'{folder}.png')
    wrong = [f"{t['index']} {t['caption']} | {' '.join(faults(r, t))}" for t, r in zip(truths, read) if faults(r, t)]
    return dict(score(read, truths, arguments.ignore_case), faults=wrong)


def main(arguments):
    judge, result = checker.load(arguments.checker), {}
    for setting in arguments.settings or ['20:4']:
        for name in arguments.lists or lists_in(arguments.lists_folder):
            start = time.time()
            result[f'{name} {setting}'] = figures = measure(arguments, judge, name, setting)
            brief = {k: v for k, v in figures.items() if k != 'faults'}
            print(f'{time.time() - start:.0f} s', name, setting, json.dumps(brief), flush=True)
            with open(arguments.out + '/engine.json', 'w', encoding='utf8') as file:
                json.dump(result, file, indent=1, ensure_ascii=False)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument in ('program', 'model', 'checker', 'lists_folder', 'out'):
        p.add_argument(argument)
    p.add_argument('settings', nargs='*')
    p.add_argument('--lists', nargs='+', help='without it all that are there')
    p.add_argument('--jobs', type=int, default=1)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--ignore-case', action='store_true')
    main(p.parse_args())
