#!/usr/bin/env python3
"""Puts known mistakes into a copy of the sources, one at a time, and shows which tests notice: the parity tests, and for
the kernels of the cpu and the cuda device those that hold them against the reference.

Prints a table in Markdown; --write puts it into tests/README.md. A mistake that no test notices makes the exit status 1.
Copy and build lie in --scratch and are reused. Takes about half a minute a mistake on two cores. Mistakes in src/cuda
need a GPU: without one they are skipped, with a line, and --write leaves their rows as they are.
"""
import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mutation_list import MUTATIONS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / 'tests' / 'README.md'
MARKERS = ('<!-- mutations: made by tools/mutations.py -->\n', '<!-- end of mutations -->\n')

# Programs whose tests may notice, and which of their tests run.
PROGRAMS = {'model': '*', 'engine': '*ParityTest*:*NoiseTest*'}
KERNEL_PROGRAMS = {'ops': '*'}
CUDA_PROGRAMS = {'ops': '*cuda*:*Cuda*'}
TOLERANCE = 3e-5  # kStageTolerance: smaller errors are those of other comparisons in a test that fails for another reason


@dataclass
class Outcome:
    tests: list   # names of failed tests without their parameters, each once
    failed: int
    error: float  # greatest relative error of those that compared tensors


def run(command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def needs_gpu(mutation):
    return mutation.file.startswith('src/cuda/')


def has_gpu():
    try:
        return 'GPU 0' in run(['nvidia-smi', '-L']).stdout
    except FileNotFoundError:
        return False


def programs_of(mutation):
    if needs_gpu(mutation):
        return CUDA_PROGRAMS
    return KERNEL_PROGRAMS if mutation.file.startswith('src/cpu/') else PROGRAMS


def build(scratch, programs):
    done = run(['cmake', '--build', scratch / 'build', '--target', *(f'{name}_test' for name in programs)])
    if done.returncode:
        raise RuntimeError('\n'.join((done.stdout + done.stderr).splitlines()[-40:]))


def prepare(scratch, programs):
    """Copies what git knows of and builds the unchanged tests, which must pass."""
    files = run(['git', 'ls-files'], cwd=ROOT).stdout.splitlines()
    for name in files:
        source, copy = ROOT / name, scratch / 'source' / name
        if source.is_file() and not (copy.exists() and copy.read_bytes() == source.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    # A mistake may leave a parameter unused.
    options = scratch / 'source' / 'cmake' / 'options.cmake'
    options.write_text(options.read_text().replace(' -Werror', ''))
    run(['cmake', '-G', 'Ninja', '-S', scratch / 'source', '-B', scratch / 'build', '-DCMAKE_BUILD_TYPE=Release',
         '-DCMAKE_CXX_FLAGS_RELEASE=-O1'], check=True)
    build(scratch, programs)
    if test(scratch, programs).failed:
        sys.exit('the unchanged sources fail')


def base_name(suite, test):
    """Suite.Test without the prefix and the suffix that parameters add."""
    return f'{suite.split("/")[-1]}.{test.split("/")[0]}'


def test(scratch, programs):
    tests, errors, failed = [], [0.0], 0
    for program, chosen in programs.items():
        report = scratch / 'report.json'
        report.unlink(missing_ok=True)
        try:
            run([scratch / 'build' / 'tests' / f'{program}_test', f'--gtest_filter={chosen}', f'--gtest_output=json:{report}'],
                timeout=600)
        except subprocess.TimeoutExpired:
            return Outcome([f'{program}_test comes to no end'], 1, 0.0)
        if not report.exists():
            return Outcome([f'{program}_test stops'], 1, 0.0)
        for suite in json.loads(report.read_text())['testsuites']:
            for case in suite['testsuite']:
                if 'failures' in case:
                    failed += 1
                    tests.append(base_name(suite['name'], case['name']))
                    errors.append(float(case.get('error', 0)))
    return Outcome(list(dict.fromkeys(tests)), failed, max(errors))


def change(text, mutation):
    for old, new in mutation.edits:
        if text.count(old) != 1:
            raise RuntimeError(f'{mutation.file}: "{old}" is there {text.count(old)} times, once is needed')
        text = text.replace(old, new)
    return text


def try_mutation(scratch, mutation):
    path = scratch / 'source' / mutation.file
    text = path.read_text()
    path.write_text(change(text, mutation))
    try:
        build(scratch, programs_of(mutation))
        return test(scratch, programs_of(mutation))
    finally:
        path.write_text(text)


def row(mutation, outcome):
    error = f'{outcome.error:.0e}' if outcome.error > TOLERANCE else '-'
    names = ', '.join(f'`{name}`' for name in outcome.tests[:3])
    more = f' and {len(outcome.tests) - 3} more' if len(outcome.tests) > 3 else ''
    change_made = '; '.join(f'`{" ".join(old.split())}` -> `{" ".join(new.split())}`' for old, new in mutation.edits)
    change_made = change_made.replace('|', '\\|')  # a bar would end the cell
    return f'| {mutation.mistake} | `{mutation.file}`: {change_made} | {names}{more} ({outcome.failed}) | {error} |'


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scratch', type=Path, help='folder for the copy and its build')
    parser.add_argument('--check', action='store_true', help='only see whether what would be changed is still in the sources')
    parser.add_argument('--only', help='try the mistakes whose text or file holds this')
    parser.add_argument('--write', action='store_true', help='put the rows into tests/README.md; mistakes that were not tried keep theirs')
    arguments = parser.parse_args()
    if not arguments.check and not arguments.scratch:
        parser.error('--scratch FOLDER is needed')
    return arguments


def known_row(mutation):
    """The row that an earlier run wrote, if one did."""
    begin = f'| {mutation.mistake} | `{mutation.file}`'
    return [line for line in README.read_text().splitlines() if line.startswith(begin)]


def write_table(table):
    before, rest = README.read_text().split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    README.write_text(before + MARKERS[0] + table + MARKERS[1] + after)


def main():
    arguments = parse_arguments()
    if arguments.check:
        for mutation in MUTATIONS:
            change((ROOT / mutation.file).read_text(), mutation)
        return
    chosen = [m for m in MUTATIONS if not arguments.only or arguments.only in m.mistake or arguments.only in m.file]
    skipped = [m for m in chosen if needs_gpu(m)] if not has_gpu() else []
    tried = [m for m in chosen if m not in skipped]
    prepare(arguments.scratch, {name: tests for m in tried for name, tests in programs_of(m).items()})
    lines = ['| mistake | change | noticed by (tests that fail) | worst relative error |', '| --- | --- | --- | --- |']
    missed = 0
    for mutation in MUTATIONS:
        if mutation in skipped:
            print(f'skipped, as there is no GPU: {mutation.mistake}', file=sys.stderr)
        if mutation not in tried:
            known = known_row(mutation)
            if arguments.write and not known:
                print(f'no row, as it was not tried: {mutation.mistake}', file=sys.stderr)
            lines += known
            continue
        outcome = try_mutation(arguments.scratch, mutation)
        missed += outcome.failed == 0
        lines.append(row(mutation, outcome))
        print(lines[-1], flush=True)
    if arguments.write:
        write_table('\n'.join(lines) + '\n')
    sys.exit(missed > 0)


if __name__ == '__main__':
    main()
