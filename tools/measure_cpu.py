"""Measures what docs/performance-cpu.md has of blocks, text encoder and decoder, and prints it as a table in Markdown.

    python tools/measure_cpu.py PROGRAM [--rounds N] [--rest SECONDS] [--only TEXT]

PROGRAM: the built `inkstone`. Each line is the median of N runs (default 2) of the command that it names, taken in turns with the others, with pauses of
SECONDS between them (default 8), since virtual machines slow down under long loads. --only: lines whose command contains TEXT."""
import argparse
import json
import statistics
import subprocess
import time

COMMANDS = (
    'block --size 512 --format int8 --arithmetic int8',
    'block --size 512 --format int4 --arithmetic int8',
    'block --size 512 --format int4_cpu --arithmetic int8',
    'block --size 512 --format bf16',
    'block --size 512 --format bf16 --arithmetic half',
    'block --size 1024 --format int8 --arithmetic int8',
    'encoder --format bf16',
    'encoder --format int8_cpu --arithmetic int8_all',
    'encoder --format int4_cpu --arithmetic int8_all',
    'vae --size 512 --format bf16',
    'vae --size 512 --format bf16 --arithmetic int8',
    'vae --size 512 --format bf16 --arithmetic int8 --band-rows 8',
    'vae --size 1024 --format bf16',
    'vae --size 1024 --format bf16 --arithmetic int8 --band-rows 16',
)


def measured(program, command):
    return json.loads(subprocess.run([program, 'bench', *command.split(), '--json'], check=True, capture_output=True, text=True).stdout)


def row(command, runs):
    middle = lambda key: statistics.median(run[key] for run in runs)
    times = sorted(run['median_s'] for run in runs)
    peaks = [run['gflops'] / run['peak_fraction'] for run in runs]
    spread = f'{times[0]:.3g} to {times[-1]:.3g}'
    return (f"| `bench {command}` | {middle('median_s'):.3g} s ({spread}) | {middle('gflops'):.0f} | {middle('peak_fraction'):.2f} of {statistics.median(peaks):.0f} "
            f"| {middle('peak_bytes') / 1e9:.2f} GB |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program')
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--rest', type=float, default=8)
    parser.add_argument('--only', default='')
    arguments = parser.parse_args()
    runs = {command: [] for command in COMMANDS if arguments.only in command}
    for _ in range(arguments.rounds):
        for command, results in runs.items():
            results.append(measured(arguments.program, command))
            time.sleep(arguments.rest)
    print('| command | time | GOP/s | share of the peak | memory |\n| --- | --- | --- | --- | --- |')
    for command, results in runs.items():
        print(row(command, results))


if __name__ == '__main__':
    main()
