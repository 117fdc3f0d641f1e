"""Measures what docs/performance-cpu.md has of a CPU and prints it as tables in Markdown, below the machine, the commit and the compiler.

    python tools/measure_cpu.py PROGRAM [--rounds N] [--rest SECONDS] [--only TEXT]
    python tools/measure_cpu.py PROGRAM --rehearse      # small work in a few seconds: whether this script works

PROGRAM: the built `inkstone`; the programs of bench/ lie beside it, in a build with INKSTONE_BENCH, else their rows say so. A figure is the median of N runs
(default 5) of the command that its row names, taken in turns with the others, with pauses of SECONDS between them (default 8), since virtual machines slow down
under long loads; the least and the greatest stand in parentheses. --only: rows whose command contains TEXT."""
import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from measured_programs import Failed, benchmarks_in, commit_of, first_line, last_line_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNKNOWN = 'unknown'
TARGET_PEAKS = {'f32': 334, 'int8': 1455, 'int8_all': 1455}  # GOP/s for which the targets in seconds were set
ISAS = ('scalar', 'avx2', 'avx_vnni', 'avx512')
SLOW_ISA = 'scalar'  # a minute a run: one round must do
EIGHT_BIT_BLOCK = 'bench block --size 512 --format int8 --arithmetic int8'
EXACT_BLOCK = 'bench block --size 512 --format bf16'
ONE_THREAD = ' --threads 1'
TINY = "generate --model models/tiny --prompt 'a red star' --size 256x256 --steps 20 --cfg 4 --seed 1 --prompt-cache off --verbose"
STAGES = ('encode', 'denoise', 'decode')
ATTENTION = ('attention/transformer_512', 'int8_attention/transformer_512', 'attention/transformer_1024', 'int8_attention/transformer_1024')
EIGHT_BIT_PRODUCTS = tuple(f'int8/{layer}_{size}_affine8' for size in (512, 1024) for layer in ('qkv', 'out', 'up', 'down'))
PACKING = (*(f'{what}/{kind}' for what in ('pack', 'first_pass') for kind in ('f32', 'bf16', 'affine8', 'affine4')), 'unpack')


@dataclass
class Setting:
    program: pathlib.Path
    least_seconds: float | None = None  # of a run of a program of bench/

    def benches(self):
        return self.program.parent / 'bench'


@dataclass
class Table:
    title: str
    commands: tuple
    figures: object  # (setting, command) -> numbers by key
    columns: tuple  # (heading, key, form, whether with the least and the greatest)
    rehearsed: tuple
    runs: dict = field(default_factory=dict)  # by command: figures of each round, or why there are none


def output_of(*command, **more):
    """stdout and stderr."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Failed(last_line_of(done.stderr))
    return done.stdout, done.stderr


def bench_figures(setting, command):
    run = json.loads(output_of(setting.program, *command.split(), '--json')[0])
    figures = {'seconds': run['median_s'], 'rate': run['gflops'], 'share': run['peak_fraction'], 'peak': run['peak_gflops'], 'bytes': run['peak_bytes'] / 1e9}
    target = None if '--threads' in command or '--isa' in command else TARGET_PEAKS.get(run['arithmetic'])
    if target:
        figures['scaled'] = run['median_s'] * run['peak_gflops'] / target
    return figures


def picture_figures(setting, command):
    with tempfile.TemporaryDirectory() as folder:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)]
        messages = output_of(setting.program, *words, '--output', f'{folder}/star.png', cwd=ROOT)[1]
    seconds = {name: float(number) for name, number in re.findall(r'(\w+) ([\d.]+) s\b', messages.strip().splitlines()[-1])}
    return {'seconds': sum(seconds[stage] for stage in STAGES), **{stage: seconds[stage] for stage in STAGES}}


def counters_of(setting, program, name):
    """What one benchmark of a program in bench/ counted."""
    path = setting.benches() / program
    if not path.exists():
        raise Failed(f'{path} is not built')
    short = [] if setting.least_seconds is None else [f'--benchmark_min_time={setting.least_seconds}']
    text = output_of(path, '--benchmark_format=json', f'--benchmark_filter=^{name}(/real_time|/manual_time)?$', *short)[0]
    runs = benchmarks_in(text)
    if len(runs) != 1 or runs[0].get('error_occurred'):
        raise Failed(runs[0]['error_message'] if runs else f'{program} has no {name}')
    return runs[0]


def attention_figures(setting, command):
    run = counters_of(setting, *command.split())
    return {'milliseconds': run['real_time'], 'rate': run['FLOP/s'] / 1e9, 'share': run['of_peak'], 'peak': run['peak'] / 1e9,
            'share_of_f32': run.get('of_f32_peak', run['of_peak'])}


def product_figures(setting, command):
    run = counters_of(setting, *command.split())
    return {'ratio': run['ratio'], 'milliseconds': run['median_s'] * 1e3, 'peer': run['onednn_s'] * 1e3, 'share': run['of_peak'], 'peer_share': run['onednn_of_peak'],
            'peak': run['peak'] / 1e9}


def packing_figures(setting, command):
    run = counters_of(setting, *command.split())
    return {'numbers': run['numbers/s'] / 1e9, 'bytes': run['read_bytes/s'] / 1e9}


SHARE = (('share of the peak', 'share', '{:.2f}', False), ('GOP/s of the peak', 'peak', '{:.0f}', False))


def tables():
    stages = tuple(
        f'bench {words}'
        for words in ('block --size 512 --format int4 --arithmetic int8', 'block --size 512 --format int4_cpu --arithmetic int8',
                      'block --size 512 --format f32', 'block --size 512 --format f16', 'block --size 512 --format bf16 --arithmetic half',
                      'block --size 1024 --format int8 --arithmetic int8', 'encoder --format bf16', 'encoder --format int8_cpu --arithmetic int8_all',
                      'encoder --format int4_cpu --arithmetic int8_all', 'vae --size 512 --format bf16', 'vae --size 512 --format bf16 --band-rows 8',
                      'vae --size 512 --format bf16 --arithmetic int8', 'vae --size 512 --format bf16 --arithmetic int8 --band-rows 8',
                      'vae --size 1024 --format bf16', 'vae --size 1024 --format bf16 --band-rows 16',
                      'vae --size 1024 --format bf16 --arithmetic int8 --band-rows 16'))
    one_thread = tuple(command + ONE_THREAD for command in (EIGHT_BIT_BLOCK, EXACT_BLOCK))
    isas = tuple(f'{EIGHT_BIT_BLOCK} --isa {isa}' for isa in ISAS)
    return (
        Table('Full size', (EIGHT_BIT_BLOCK, EXACT_BLOCK, *stages, *one_thread, *isas), bench_figures,
              (('time', 'seconds', '{:.3g} s', True), ('at the peak of the targets', 'scaled', '{:.3g} s', False), ('GOP/s', 'rate', '{:.0f}', False), *SHARE,
               ('memory', 'bytes', '{:.2f} GB', False)),
              ('bench vae --size 16 --format f16', f'bench vae --size 16{ONE_THREAD} --isa {SLOW_ISA}')),
        Table('A small picture: compute time', (f'{TINY} --arithmetic int8', TINY), picture_figures,
              (('together', 'seconds', '{:.3g} s', True), *((stage, stage, '{:.3g} s', False) for stage in STAGES)),
              (TINY.replace('256x256', '64x64').replace('--steps 20', '--steps 2'),)),
        Table('Attention', tuple(f'attention_bench {name}' for name in ATTENTION), attention_figures,
              (('time', 'milliseconds', '{:.3g} ms', True), ('GOP/s', 'rate', '{:.0f}', False), *SHARE, ('share of the f32 peak', 'share_of_f32', '{:.2f}', False)),
              ('attention_bench attention/tiny',)),
        Table('8-bit products beside oneDNN', tuple(f'int8_bench {name}' for name in EIGHT_BIT_PRODUCTS), product_figures,
              (("times oneDNN's time", 'ratio', '{:.3f}', True), ('ours', 'milliseconds', '{:.3g} ms', False), ('oneDNN', 'peer', '{:.3g} ms', False),
               ("oneDNN's share of the peak", 'peer_share', '{:.2f}', False), *SHARE),
              ()),
        Table('Rounding weights, one core', tuple(f'pack_bench {name}' for name in PACKING), packing_figures,
              (('G numbers/s', 'numbers', '{:.2f}', True), ('GB/s read', 'bytes', '{:.2f}', False)), ('pack_bench pack/affine8',)),
    )


def processor():
    try:
        found = re.search(r'^model name\s*: (.+)$', pathlib.Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else UNKNOWN


def compiler(program):
    try:
        found = re.search(r'^CMAKE_CXX_COMPILER:\w+=(.+)$', (program.parent / 'CMakeCache.txt').read_text(), re.MULTILINE)
    except OSError:
        found = None
    return (found and first_line(found.group(1), '--version')) or UNKNOWN


def head(program, rounds):
    return (f'{datetime.date.today()}, commit {commit_of(ROOT) or UNKNOWN}, {processor()}, {len(os.sched_getaffinity(0))} threads, {compiler(program)}; '
            f'medians of {rounds} (least to greatest)')


def measure(setting, all_tables, rounds, rest):
    for turn in range(rounds):
        for table in all_tables:
            for command, runs in table.runs.items():
                if turn > 0 and (f'--isa {SLOW_ISA}' in command or not isinstance(runs[-1], dict)):
                    continue
                try:
                    runs.append(table.figures(setting, command))
                except Failed as reason:
                    runs.append(str(reason))
                except (OSError, KeyError, ValueError, IndexError) as error:  # an hour of other rows must not be lost
                    runs.append(f'{type(error).__name__}: {error}')
                print(f'{command}: {runs[-1]}', file=sys.stderr, flush=True)
                time.sleep(rest)


def cell(runs, key, form, with_ends):
    numbers = [run[key] for run in runs if key in run]
    if not numbers:
        return ''
    middle, bare = form.format(statistics.median(numbers)), form.split()[0]  # without its unit
    return f'{middle} ({bare.format(min(numbers))} to {bare.format(max(numbers))})' if with_ends and len(numbers) > 1 else middle


def print_table(table):
    print(f"\n{table.title}:\n\n| command | {' | '.join(column[0] for column in table.columns)} |\n|{' --- |' * (1 + len(table.columns))}")
    for command, runs in table.runs.items():
        measured = [run for run in runs if isinstance(run, dict)]
        cells = [cell(measured, *column[1:]) for column in table.columns] if measured else [f'not measured: {runs[-1]}', *[''] * (len(table.columns) - 1)]
        print(f"| `{command}` | {' | '.join(cells)} |")


def print_efficiency(table):
    """What all threads reach of as many times one."""
    threads = len(os.sched_getaffinity(0))
    middle = lambda command: statistics.median(run['seconds'] for run in table.runs[command])
    for command in table.runs:
        one = command + ONE_THREAD
        if one in table.runs and all(isinstance(run, dict) for run in (*table.runs[one], *table.runs[command])):
            print(f'\n`{command}`: {threads} threads reach {middle(one) / (threads * middle(command)):.1%} of {threads} times one')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program', type=pathlib.Path)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--rest', type=float, default=8)
    parser.add_argument('--only', default='')
    parser.add_argument('--rehearse', action='store_true')
    arguments = parser.parse_args()
    setting = Setting(arguments.program.resolve())
    rounds, rest = arguments.rounds, arguments.rest
    if arguments.rehearse:
        rounds, rest, setting.least_seconds = 2, 0, 0.01
    all_tables = tables()
    for table in all_tables:
        table.runs = {command: [] for command in (table.rehearsed if arguments.rehearse else table.commands) if arguments.only in command}
    all_tables = [table for table in all_tables if table.runs]
    measure(setting, all_tables, rounds, rest)
    print(head(setting.program, rounds))
    for table in all_tables:
        print_table(table)
    for table in all_tables:
        if table.figures is bench_figures:
            print_efficiency(table)


if __name__ == '__main__':
    main()
