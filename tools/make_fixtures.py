#!/usr/bin/env python3
"""Makes the committed fixtures of the tests: small random models, and what diffusers and transformers compute with them.

  random_a    f32 (transformer f16), two blocks, VAE factor 4: the tiny test model of diffusers' own tests, VAE narrower
  random_b    bf16, three blocks, VAE factor 8 with the published latent statistics, other text encoder layout
  random_mlx  4 and 8 bits mixed with bf16 in mflux's layout, transformer and VAE without config.json
  tiny        pictures of models/tiny
  tokens      token ids of strings in many scripts, with OUT/tokenizer/merges.txt and with models/tiny
  numbers     sigmas of many schedules
  gguf_blocks digests of what the package gguf makes of random blocks

A model goes to OUT/NAME, what it computes to OUT/expected: NAME.safetensors, NAME.json that describes it, and the pictures
as NAME.runs.RUN.I.png. All is made with the versions in tools/requirements.txt, in f32 on the CPU, and comes out the same on every run.
"""
import argparse
import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / 'models' / 'tiny'


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='what to make; all without one')
    parser.add_argument('--out', type=Path, default=ROOT / 'tests' / 'data', help='default: %(default)s')
    parser.add_argument('--precision', action='store_true',
                        help="also compute everything in f64 and print how far the f32 reference is from it")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MAKERS)
    if unknown:
        parser.error(f'unknown name {sorted(unknown)[0]}; known are {", ".join(MAKERS)}')
    return arguments


def record_model(name, pipe, cases, arguments):
    """Records everything of `cases` and writes it."""
    from fixtures import precision, reference, store
    record = store.Recorder()
    reference.record_all(pipe, cases, record)
    record.save(arguments.out / 'expected', name)
    if arguments.precision:
        precision.check_precision(pipe, lambda p, r: reference.record_all(p, cases, r), record)


def make_random(name, plan, cases, arguments):
    from fixtures import models, reference
    folder = arguments.out / name
    models.write_folder(plan, TINY / 'tokenizer', folder)
    record_model(name, reference.load_pipeline(folder), cases, arguments)


def make_random_a(arguments):
    from fixtures import cases, models
    make_random('random_a', models.RANDOM_A, cases.CASES_A, arguments)


def make_random_b(arguments):
    from fixtures import cases, models
    make_random('random_b', models.RANDOM_B, cases.CASES_B, arguments)


def make_random_mlx(arguments):
    from fixtures import cases, models
    pipe = models.write_mlx_folder(models.RANDOM_MLX, TINY / 'tokenizer', arguments.out / 'random_mlx')
    record_model('random_mlx', pipe, cases.CASES_MLX, arguments)


def make_tiny(arguments):
    from fixtures import cases, reference
    record_model('tiny', reference.load_pipeline(TINY), cases.CASES_TINY, arguments)


def make_part(name):
    """A maker that is a module of its own: fixtures/NAME.py with make(OUT)."""
    return lambda arguments: importlib.import_module(f'fixtures.{name}').make(arguments.out)


MAKERS = {
    'random_a': make_random_a,
    'random_b': make_random_b,
    'random_mlx': make_random_mlx,
    'tiny': make_tiny,
    'tokens': make_part('tokens'),
    'numbers': make_part('numbers'),
    'gguf_blocks': make_part('gguf_blocks'),
}


def main():
    arguments = parse_arguments()
    for name in arguments.names or MAKERS:
        print(f'{name} -> {arguments.out}')
        MAKERS[name](arguments)


if __name__ == '__main__':
    main()
