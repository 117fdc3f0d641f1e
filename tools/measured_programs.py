"""Runs the programs of a build for measure_cpu.py and measure_cuda.py, and reads what they print."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from dataclasses import dataclass

PROMPT = "a red lighthouse and two boats on a rocky coast in the evening sun, seen from far away over waves of a quiet sea at low tide"  # 64 tokens
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
COMMAND_SECONDS = 300  # at most


class Failed(Exception):
    """A command that gave no result."""


@dataclass
class Programs:
    """Of a build, and where they run."""

    program: str
    benches: pathlib.Path
    work: pathlib.Path
    device: str = "cuda"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_command(command: list, **more) -> subprocess.CompletedProcess:
    begin = time.monotonic()
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=COMMAND_SECONDS, **more)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end within {COMMAND_SECONDS} s: {' '.join(map(str, command))}") from None
    progress(f"[{time.monotonic() - begin:.1f} s] {' '.join(map(str, command))}")
    return done


def last_line_of(text: str) -> str:
    return (text.strip() or "no message").splitlines()[-1]


def last_line(done: subprocess.CompletedProcess) -> str:
    return last_line_of(done.stderr.strip() or done.stdout)


def output_of(command: list, **more) -> subprocess.CompletedProcess:
    done = run_command(command, **more)
    if done.returncode != 0:
        raise Failed(last_line(done))
    return done


def first_line(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def commit_of(root: pathlib.Path) -> str:
    """Of a tree, with a mark if files were changed since; empty if it is no repository."""
    git = ("git", "-C", str(root))
    if first_line(*git, "rev-parse", "--show-toplevel") != str(root):
        return ""
    changed = first_line(*git, "status", "--porcelain", "--untracked-files=no")
    return first_line(*git, "rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def digits(number: float) -> str:
    """Three of them, without an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def each(numbers, factor: float = 1) -> str:
    return ", ".join(digits(factor * number) for number in numbers)


def bench_json(programs: Programs, *arguments) -> dict:
    return json.loads(output_of([programs.program, "bench", *arguments, "--device", programs.device, "--json"]).stdout)


def benchmarks_in(text: str) -> list[dict]:
    """Of Google Benchmark's JSON, behind whatever a program says before; none if it ended on the way."""
    begin = re.search(r"^\{", text, re.MULTILINE)
    try:
        return json.loads(text[begin.start() :])["benchmarks"] if begin else []
    except ValueError:
        return []


def google_benchmark(programs: Programs, name: str, *arguments, **environment) -> list[dict]:
    """Those that could not run among them. Error if the program ended on the way, or none fits the arguments."""
    command = [(programs.benches / name).resolve(), "--benchmark_format=json", *arguments]
    where = {"env": {**os.environ, "INKSTONE_DEVICE": programs.device, "TMPDIR": str(programs.work.resolve()), **environment}}
    done = run_command(command, **where)
    runs = benchmarks_in(done.stdout)
    if not runs or (done.returncode != 0 and not any(run.get("error_occurred") for run in runs)):
        raise Failed(last_line(done))
    return runs


def rate_text(run: dict) -> str:
    """What a kernel reached, beside what a large product or a large copy did in the same run."""
    for rate, share, peak, unit, scale in (("FLOP/s", "of_peak", "peak", "TFLOP/s", 1e12), ("B/s", "of_copy", "copy", "GB/s", 1e9)):
        if rate in run:
            return f", {digits(run[rate] / scale)} {unit}, {run[share]:.2f} of {digits(run[peak] / scale)}"
    return ""


@dataclass
class Run:
    """What `generate --verbose` said."""

    seconds: dict  # of each stage, and "total"
    tensors: float  # bytes at most
    needed: float | None  # bytes, by the plan
    plan: str


def bytes_in(number: str, unit: str) -> float:
    return float(number) * UNITS[unit]


def parse_run(text: str) -> Run:
    """Error if a line is missing that every run has."""
    last = re.search(r"^(?:\w+ [\d.]+ s, )+total [\d.]+ s; at most ([\d.]+) (\w+) of tensors", text, re.MULTILINE)
    if last is None:
        raise Failed("generate printed no times")
    seconds = {name: float(number) for name, number in re.findall(r"(\w+) ([\d.]+) s", last.group(0))}
    plan = re.search(r"^memory: .*?([\d.]+) (\w+) needed, .*$", text, re.MULTILINE)
    return Run(
        seconds,
        bytes_in(*last.groups()),
        bytes_in(*plan.groups()) if plan else None,
        plan.group(0) if plan else "",
    )


def arithmetic(name: str) -> list[str]:
    return [] if name in ("bf16", "int4") else ["--arithmetic", name]


def generate_command(programs: Programs, folder, size: int, steps: int, cfg: float, *more) -> list:
    guided = ["--negative-prompt", "blurry"] if cfg > 1 else []
    return [
        *(programs.program, "generate", "--model", folder, "--device", programs.device, "--size", f"{size}x{size}"),
        *("--steps", steps, "--cfg", cfg, *guided, "--prompt", PROMPT, "--seed", 1, "--prompt-cache", "off"),
        *("--verbose", "--output", programs.work / "picture.png", *more),
    ]


def generate(programs: Programs, folder, size: int, steps: int, cfg: float, *more) -> Run:
    return parse_run(output_of(generate_command(programs, folder, size, steps, cfg, *more)).stderr)


def generate_text(size, steps, cfg, *more) -> str:
    return " ".join(map(str, ("inkstone generate --size", f"{size}x{size} --steps", steps, "--cfg", cfg, *more)))


def idle_share(programs: Programs, *arguments) -> dict:
    """What bench/cuda/idle_share.cpp says of this `bench`."""
    library = (programs.benches / "libidle_share.so").resolve()
    if not library.exists():
        raise Failed(f"{library} is not there: it is built where the CUDA toolkit has CUPTI")
    command = [programs.program, "bench", *arguments, "--device", programs.device, "--json"]
    told = output_of(command, env={**os.environ, "CUDA_INJECTION64_PATH": str(library)}).stderr
    line = re.search(r"^\{.*\}$", told, re.MULTILINE)
    if line is None:
        raise Failed(f"CUPTI told nothing: {last_line_of(told)}")
    share = json.loads(line.group(0))
    if share["dropped"]:
        raise Failed(f"CUPTI had no room for {share['dropped']} records")
    return share
