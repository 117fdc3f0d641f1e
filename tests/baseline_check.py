"""Whether what is compiled runs on every x86-64: vectors beyond SSE only in the files of src/cpu/isa that are named for them, and no function of those that a
linker could take in place of one of the same name elsewhere.

    python baseline_check.py OBJDUMP OBJECT..."""
import re
import subprocess
import sys

BEYOND_SSE = re.compile(r'%[yz]mm\d|%k[1-7]\b|\tv[a-z0-9]+ +.*%xmm')
FOR_MORE = re.compile(r'/src/cpu/isa/[a-z0-9]+_avx\w*\.cpp')
WEAK_FUNCTION = re.compile(r'^[0-9a-f]+ +w +F \.text\S*\s+[0-9a-f]+ +(.+)$', re.MULTILINE)
LEAST_FILES = 2  # for more than the baseline: fewer mean that this looked at the wrong objects


def listed(objdump, path, *options):
    return subprocess.run([objdump, *options, path], check=True, capture_output=True, text=True, errors='replace').stdout


def faults_of(objdump, path):
    if FOR_MORE.search(path):
        return [f'{path}: another file may have {name} too, and the linker takes any' for name in WEAK_FUNCTION.findall(listed(objdump, path, '-tC'))]
    line = next((line for line in listed(objdump, path, '-d', '--no-show-raw-insn').splitlines() if BEYOND_SSE.search(line)), None)
    return [f'{path}: {line.strip()}'] if line else []


def main():
    objdump, *objects = sys.argv[1:]
    assert sum(bool(FOR_MORE.search(path)) for path in objects) >= LEAST_FILES, 'no objects of src/cpu/isa'
    faults = [fault for path in objects for fault in faults_of(objdump, path)]
    print('\n'.join(faults) or f'{len(objects)} objects')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
