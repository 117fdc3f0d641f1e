"""Measures what the table at the head of docs/performance-cuda.md holds, on a machine with an NVIDIA GPU and a build with benches, and prints it in
Markdown: what was wanted, what was measured, the command. Each row is printed as soon as it is there, with its single runs; the table comes at the end.

    python tools/measure_cuda.py COMMIT                          # the parts of the table, some ten minutes on an H200 with 16 cores
    python tools/measure_cuda.py COMMIT passes decoder encoder   # some of them
    python tools/measure_cuda.py COMMIT kernels ladders errors rounding fidelity    # what is not in the table
    python tools/measure_cuda.py any --rehearse                  # on the CPU at tiny sizes: whether this script works

Models of random weights are written to a folder of --work when a part first needs them and removed at the end: 55 GB in bf16, 16 GB in int4, of which only one
is there at a time. Where the disk has no room for all blocks, half as many are written, and times of steps are doubled; the rows say so. The folder is warm: its
files are in the system's cache, since they were just written. With --keep a later call finds them.

What takes turns: in passes, idle, decoder, encoder, cfg, denoise and start all ways of a part are measured one after the other, and then again (--turns; passes
five times); a row is the median of its runs, of two their mean. Once each: memory and fidelity. Programs of bench/ that repeat the work themselves: link and
picture (medians of five), kernels, ladders (medians of 31, versions in turns), errors, rounding.

fp8_all is fp8 below 3584 rows, so that it is a way of its own only at large sizes: of passes, of steps and of denoising.

The clock, the power and whether power held the clock back are those of samples by nvidia-smi while the program worked. COMMIT is for a tree without a
repository; where there is one the head tells its commit, and whether files were changed since.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field

from card_samples import CARD_MEMORY, CLOCKS, OWN_MEMORY, at_work, card_samples, clocks_text, most_gigabytes
from measured_models import ALL_BLOCKS, Models
from measured_programs import Failed, Programs, arithmetic, bench_json, commit_of, digits, each, first_line, generate, generate_text, google_benchmark, idle_share
from measured_programs import output_of, progress, rate_text

ROOT = pathlib.Path(__file__).resolve().parent.parent
IN_A_ROW, ENCODER_LAYERS = 6, 28
WIDTH = 3072
BLOCK_NUMBERS = 24 * WIDTH * WIDTH  # of a block's matrices, both streams
LINK_BLOCKS, LINK_SIZE = 8, 1024  # of upload_bench
SIZES, DECODED = (512, 1024, 1328), (512, 1024, 1328, 2048)
IDLE_SIZE = 512
LEAST_OF_ALL = 1024  # pixels of the least size measured at which fp8_all is not fp8
BANDS = {512: (16,), 1024: (64, 32, 16), 1328: (64, 32, 16), 2048: (32, 16, 8)}
TURNS = 2  # all ways of a part one after the other, so often
PASS_TURNS = 5  # short runs, of which each has another clock
STEPS, CFG = 50, 4
FEW_STEPS = 2  # the least that the model's scheduler has
MEMORY_STEPS = 10
SLOPE_STEPS = {512: (10, 60), 1024: (10, 30), 1328: (10, 20)}  # both replayed, the difference a second or more
GUIDED_SIZES = (512, 1024)  # where a step with CFG is timed too
MEMORY = {"bf16": "30GB", "fp8": "16GB", "int4": "10GB", "int4, streamed": "5GB"}
CAPTIONS = 32
MICROSECONDS = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}
LADDERS = ("fused_ladder", "attention_ladder", "norm_ladder", "pass_ladder", "conv_ladder")
WANTED = {
    "passes bf16": "30 / 105 / 195 ms",
    "passes fp8": "20 / 68 / 130 ms",
    "passes fp8_all": "",
    "decoder": "5 / 15 / 25 / 60 ms",
    "bands": "1 GB at any size",
    "encoder": "6 ms",
    "idle": "3 %",
    "cfg": "1.8 / 1.95",
    "denoise bf16": "10.5 s",
    "denoise fp8": "6.8 s",
    "denoise fp8_all": "",
    "start bf16": "10 s",
    "start fp8": "5 s",
    "picture bf16": "",
    "picture fp8": "0.45 s",
    "link": "1.2",
}


@dataclass
class Setting(Programs):
    """What is measured where; a rehearsal shrinks all of it."""

    eight_bits: str = "fp8"
    eight_bits_and_attention: str = "fp8_all"
    preset: str = "qwen-image-2512"
    sizes: tuple = SIZES
    decoded: tuple = DECODED
    bands: dict = field(default_factory=lambda: BANDS)
    in_a_row: int = IN_A_ROW
    encoder_layers: int = ENCODER_LAYERS
    turns: int = TURNS
    pass_turns: int = PASS_TURNS
    steps: int = STEPS
    slope_steps: dict = field(default_factory=lambda: SLOPE_STEPS)
    guided_sizes: tuple = GUIDED_SIZES
    idle_size: int = IDLE_SIZE
    least_of_all: int = LEAST_OF_ALL
    picture: int = 1024
    memory: dict = field(default_factory=lambda: MEMORY)
    captions: int = CAPTIONS


def rehearsal(setting: Setting) -> Setting:
    setting.device, setting.eight_bits, setting.eight_bits_and_attention, setting.preset = "cpu", "int8", "int8", "tiny"
    setting.sizes, setting.decoded, setting.bands = (16, 32, 48), (16, 32), {16: (1,), 32: (2, 1)}
    setting.in_a_row = setting.encoder_layers = setting.turns = setting.pass_turns = 1
    setting.steps, setting.slope_steps, setting.picture = 6, {64: (4, 8), 128: (4, 8)}, 128
    setting.guided_sizes, setting.idle_size, setting.least_of_all = (64,), 16, 32
    setting.memory = dict.fromkeys(MEMORY, "1GB")
    setting.captions = 2
    return setting


class Report:
    def __init__(self):
        self.rows, self.failed = [], False

    def add(self, name: str, wanted: str, measured: str, command: str, runs: str = "") -> None:
        self.rows.append((name, wanted, measured, command))
        print(f"{name}: {measured}" + (f" (runs: {runs})" if runs else ""), flush=True)

    def fail(self, name: str, reason: str) -> None:
        self.failed = True
        self.add(name, "", f"not measured: {reason}", "")

    def print_table(self, head: str) -> None:
        print(f"\n{head}\n\n| | wanted | measured | command |\n| --- | --- | --- | --- |")
        for name, wanted, measured, command in self.rows:
            print(f"| {name} | {wanted} | {measured} | {f'`{command}`' if command else ''} |")


class Measure:
    def __init__(self, setting: Setting, report: Report):
        self.setting, self.report = setting, report
        self.models = Models(setting)

    def eight(self, name: str) -> str:
        """Rows of 8 bits are called fp8 and fp8_all, whatever a rehearsal takes."""
        return {"fp8": self.setting.eight_bits, "fp8_all": self.setting.eight_bits_and_attention}.get(name, name)

    def ways(self, sizes) -> list:
        """With the sizes at which each is one of its own."""
        return [(way, size) for size in sizes for way in ("bf16", "fp8", "fp8_all") if way != "fp8_all" or size >= self.setting.least_of_all]

    def benchmarks(self, name: str, *arguments, **environment):
        """Those of a program of bench/ that ran; the others are rows that say why not."""
        for run in google_benchmark(self.setting, name, *arguments, **environment):
            if run.get("error_occurred"):
                self.report.fail(run["name"], run.get("error_message", "no message"))
            else:
                yield run

    def passes(self) -> None:
        s = self.setting
        times = {way: [] for way in self.ways(s.sizes)}
        clocks = {way: [] for way in times}
        peaks = {way: [] for way, _ in times}
        for _ in range(s.pass_turns):
            for way, size in times:
                with card_samples(CLOCKS) as seen:
                    got = bench_json(s, *self.blocks(way, size))
                clocks[way, size] += at_work(seen)
                times[way, size].append(got["median_s"] * ALL_BLOCKS / s.in_a_row * 1e3)
                peaks[way].append(got["gflops"] / got["peak_fraction"] / 1e3)
        for way in peaks:
            sizes = [size for kind, size in times if kind == way]
            measured = " / ".join(digits(statistics.median(times[way, size])) for size in sizes)
            runs = "; ".join(f"{size}: {each(times[way, size])}" for size in sizes)
            tflops = f"{min(peaks[way]):.0f} to {max(peaks[way]):.0f} TFLOP/s"
            measured += " ms" + clocks_text([clocks[way, size] for size in sizes])
            command = " ".join([f"inkstone bench block --layers {s.in_a_row} --format bf16", *arithmetic(way)])
            name = f"pass in {way}, {' / '.join(map(str, sizes))}"
            self.report.add(name, WANTED[f"passes {way}"], measured, f"{command}, times {ALL_BLOCKS // s.in_a_row}", f"{runs}; a large product: {tflops}")

    def idle(self) -> None:
        """Beside what the same blocks take without CUPTI's records."""
        s = self.setting
        command = "CUDA_INJECTION64_PATH=build/bench/libidle_share.so inkstone bench"
        got = {way: [] for way in ("bf16", "fp8")}
        without = {way: [] for way in got}
        for _ in range(s.turns):
            for way in got:
                without[way].append(1e3 * bench_json(s, *self.blocks(way, s.idle_size))["median_s"])
                got[way].append(idle_share(s, *self.blocks(way, s.idle_size)))
        for way, runs in got.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            measured = f"{100 * median['idle_share']:.2g} %: of {median['span_ms']:.4g} ms from the first of {median['kernels']:.0f} kernels to the last"
            measured += f" one runs in {median['busy_ms']:.4g}; all take {median['sum_ms']:.4g} in sum; {digits(statistics.median(without[way]))} ms without the records"
            told = f"{each([run['idle_share'] for run in runs], 100)} %; {min(run['replays'] for run in runs)} or more replays each"
            self.report.add(
                f"the GPU idle while {s.in_a_row} blocks are replayed at {s.idle_size}, {way}",
                WANTED["idle"],
                measured,
                " ".join(map(str, [command, *self.blocks(way, s.idle_size)])),
                told,
            )

    def blocks(self, way: str, size: int) -> list:
        return ["block", "--layers", self.setting.in_a_row, "--format", "bf16", "--size", size, *arithmetic(self.eight(way))]

    def decoder(self) -> None:
        s = self.setting
        ways = [(size, rows) for size in s.decoded for rows in (0, *s.bands.get(size, ()))]
        got = {way: [] for way in ways}
        for _ in range(s.turns):
            for size, rows in ways:
                bands = ["--band-rows", rows] if rows else []
                got[size, rows].append(bench_json(s, "vae", "--size", size, "--format", "bf16", *bands))
        ms = {way: [1e3 * one["median_s"] for one in got[way]] for way in ways}
        gb = {way: max(one["peak_bytes"] for one in got[way]) / 1e9 for way in ways}
        whole = [(size, 0) for size in s.decoded]
        self.report.add(
            f"decoder, {' / '.join(map(str, s.decoded))}",
            WANTED["decoder"],
            f"{' / '.join(digits(statistics.median(ms[way])) for way in whole)} ms; {' / '.join(digits(gb[way]) for way in whole)} GB",
            "inkstone bench vae --format bf16",
            "; ".join(f"{size}: {each(ms[size, 0])}" for size, _ in whole),
        )
        for size in s.decoded:
            rows_of = s.bands.get(size, ())
            if not rows_of:
                continue
            measured = "; ".join(f"{r} rows: {digits(statistics.median(ms[size, r]))} ms, {digits(gb[size, r])} GB" for r in rows_of)
            runs = "; ".join(f"{r} rows: {each(ms[size, r])}" for r in rows_of)
            self.report.add(f"decoder in bands at {size}", WANTED["bands"], measured, "inkstone bench vae --format bf16 --band-rows N", runs)

    def encoder(self) -> None:
        s = self.setting
        got = [bench_json(s, "encoder", "--layers", s.encoder_layers, "--format", "bf16") for _ in range(s.turns)]
        ms = [one["median_s"] * 1e3 for one in got]
        command = f"inkstone bench encoder --layers {s.encoder_layers} --format bf16"
        self.report.add(f"text encoder, {s.encoder_layers} layers", WANTED["encoder"], f"{digits(statistics.median(ms))} ms", command, each(ms))

    def cfg(self) -> None:
        """A step of a run: more steps less fewer, so that what a run begins with is in neither."""
        s, folder = self.setting, self.models.folder("bf16")
        ways = [(way, size, 1) for way, size in self.ways(s.slope_steps)] + [("bf16", size, CFG) for size in s.guided_sizes]
        took = {(way, n): [] for way in ways for n in s.slope_steps[way[1]]}
        clocks = {way: [] for way in ways}
        for _ in range(s.turns):
            for (kind, size, cfg), n in took:
                with card_samples(CLOCKS) as seen:
                    run = generate(s, folder, size, n, cfg, *arithmetic(self.eight(kind)))
                took[(kind, size, cfg), n].append(run.seconds["denoise"])
                clocks[kind, size, cfg] += at_work(seen)
        for kind in dict.fromkeys(way for way, _ in self.ways(s.slope_steps)):
            self.report_steps([way for way in ways if way[0] == kind and way[2] == 1], took, clocks)
        for size in s.guided_sizes:
            self.report_steps([("bf16", size, CFG)], took, clocks)
        ratios = [self.step_ms(("bf16", size, CFG), took) / self.step_ms(("bf16", size, 1), took) for size in s.guided_sizes]
        name = f"a step with CFG beside one without, bf16, {' / '.join(map(str, s.guided_sizes))}"
        self.report.add(name, WANTED["cfg"], self.models.of(" / ".join(digits(ratio) for ratio in ratios), doubled=False), f"--cfg {CFG} and --cfg 1 above")

    def step_ms(self, way: tuple, took: dict) -> float:
        few, many = self.setting.slope_steps[way[1]]
        step = (statistics.median(took[way, many]) - statistics.median(took[way, few])) / (many - few)
        return 1e3 * self.models.factor * step if step > 0 else float("nan")

    def report_steps(self, ways: list, took: dict, clocks: dict) -> None:
        """A row, of ways that differ in size."""
        kind, _, cfg = ways[0]
        slopes = {way[1]: self.setting.slope_steps[way[1]] for way in ways}
        runs = "; ".join(f"{way[1]}, {n} steps: {each(took[way, n])} s" for way in ways for n in slopes[way[1]])
        lengths = ", ".join(f"{few} and {many} at {size}" for size, (few, many) in slopes.items())
        self.report.add(
            f"a step of a run in {kind}, {'CFG, ' if cfg > 1 else ''}{' / '.join(map(str, slopes))}",
            WANTED[f"passes {kind}"] if cfg == 1 else "",
            self.models.of(f"{' / '.join(digits(self.step_ms(way, took)) for way in ways)} ms") + clocks_text([clocks[way] for way in ways]),
            " ".join([f"inkstone generate --cfg {cfg}", *arithmetic(kind), f"--steps {lengths}, their difference"]),
            runs,
        )

    def denoise(self) -> None:
        s, folder = self.setting, self.models.folder("bf16")
        took = {way: [] for way, _ in self.ways([s.picture])}
        clocks = {way: [] for way in took}
        for _ in range(s.turns):
            for way in took:
                with card_samples(CLOCKS) as seen:
                    run = generate(s, folder, s.picture, s.steps, CFG, *arithmetic(self.eight(way)))
                took[way].append(run.seconds["denoise"] * self.models.factor)
                clocks[way] += at_work(seen)
        for way, seconds in took.items():
            name = f"denoising at {s.picture}, {s.steps} steps, CFG {CFG}, {way}"
            command = generate_text(s.picture, s.steps, CFG, *arithmetic(way))
            measured = self.models.of(f"{digits(statistics.median(seconds))} s") + clocks_text([clocks[way]])
            self.report.add(name, WANTED[f"denoise {way}"], measured, command, each(seconds))

    def start(self) -> None:
        """What the program took in all, less denoising and what follows: loading, encoding, and all between."""
        s, folder = self.setting, self.models.folder("bf16")
        took = {way: [] for way in ("bf16", "fp8")}
        parts = {way: [] for way in took}
        for _ in range(s.turns):
            for way in took:
                run = generate(s, folder, s.picture, FEW_STEPS, 1, *arithmetic(self.eight(way)))
                after = sum(run.seconds.get(stage, 0) for stage in ("denoise", "decode", "write"))
                took[way].append(run.seconds["total"] - after)
                parts[way].append(f"load {run.seconds.get('load', 0):.2f}, encode {run.seconds.get('encode', 0):.2f}")
        for way, seconds in took.items():
            name = f"start of the process to the first step, {way}"
            measured = self.models.of(f"{digits(statistics.median(seconds))} s", doubled=False)
            command = generate_text(s.picture, FEW_STEPS, 1, *arithmetic(way), "--verbose")
            self.report.add(name, WANTED[f"start {way}"], measured, command, f"{each(seconds)}; {'; '.join(parts[way])}")

    def picture(self) -> None:
        folder = self.models.folder("bf16")
        for run in self.benchmarks("picture_bench", INKSTONE_MODEL=str(folder)):
            way = run["label"]
            stages = ", ".join(f"{stage} {digits(run[f'warm_{stage}_s'])}" for stage in ("encode", "denoise", "decode") if f"warm_{stage}_s" in run)
            measured = self.models.of(f"{digits(run['warm_s'])} s", doubled=False)
            runs = f"first {digits(run['first_s'])}, second {digits(run['second_s'])}; of the last: {stages}"
            command = "INKSTONE_MODEL=DIR build/bench/picture_bench"
            self.report.add(f"prompt to PNG, 1024, 4 steps, CFG 1, warm, {way}", WANTED[f"picture {way}"], measured, command, runs)

    def memory(self) -> None:
        for way in self.setting.memory:
            try:
                self.memory_of(way)
            except Failed as failure:  # what does not fit is an error, and the others may
                self.report.fail(f"the GPU's memory, {way}", str(failure))

    def memory_of(self, way: str) -> None:
        s, bound, kind = self.setting, self.setting.memory[way], way.split(",")[0]
        folder = self.models.folder("int4" if kind == "int4" else "bf16")
        with card_samples(CARD_MEMORY) as card, card_samples(OWN_MEMORY) as apps:
            run = generate(s, folder, s.picture, MEMORY_STEPS, CFG, *arithmetic(self.eight(kind)), "--memory", bound)
        own = [used for name, used in apps if name.endswith("inkstone")]
        on_card = most_gigabytes((used for (used,) in card), "on the card") + most_gigabytes(own, "by the process")
        needed = f", {run.needed / 1e9:.3g} GB planned" if run.needed else ""
        step = digits(run.seconds["denoise"] / MEMORY_STEPS)
        measured = f"{on_card}{run.tensors / 1e9:.3g} GB of tensors{needed}; {step} s a step, its beginning included"
        command = generate_text(s.picture, MEMORY_STEPS, CFG, *arithmetic(kind), "--memory", bound)
        self.report.add(
            f"the GPU's memory at {s.picture}, {way}",
            f"{bound.removesuffix('GB')} GB",
            self.models.of(measured, doubled=False),
            f"{command} --model DIR-{'int4' if kind == 'int4' else 'bf16'}",
            run.plan,
        )

    def link(self) -> None:
        for run in self.benchmarks("upload_bench", f"--benchmark_filter=/{LINK_SIZE}/"):
            ms = {name: run[f"{name}_s"] * 1e3 for name in ("resident", "link", "on_host", "in_files")}
            rate = f", {LINK_BLOCKS * 2 * BLOCK_NUMBERS / ms['link'] / 1e6:.3g} GB/s" if run["label"] == "bf16, bf16" else ""
            measured = f"{digits(ms['on_host'] / ms['link'])}, from files {digits(ms['in_files'] / ms['link'])}"
            runs = f"resident {digits(ms['resident'])}, link alone {digits(ms['link'])} ms{rate}"
            runs += f", from host memory {digits(ms['on_host'])}, from files {digits(ms['in_files'])}"
            self.report.add(f"streamed blocks beside the link alone, {run['label']}", WANTED["link"], f"{measured}; {runs}", "build/bench/upload_bench")

    def kernels(self) -> None:
        for name in ("gpu_linear_bench", "attention_bench", "conv_bench", "pointwise_bench"):
            try:
                for run in self.benchmarks(name, "--benchmark_filter=-onednn|int8_attention"):
                    measured = f"{run['real_time'] * MICROSECONDS[run['time_unit']]:.4g} us{rate_text(run)}"
                    self.report.add(run["name"], "", measured, f"INKSTONE_DEVICE=cuda build/bench/{name}")
            except Failed as failure:
                self.report.fail(name, str(failure))

    def ladders(self) -> None:
        """The programs check all versions, and end where one is wrong."""
        for name in LADDERS:
            try:
                told = output_of([self.setting.benches / name]).stdout
            except (Failed, OSError) as failure:
                self.report.fail(name, str(failure))
                continue
            problem = ""
            for line in told.splitlines():
                step = re.match(r"  (.+?) +([\d.]+ ms) +(\d.*)$", line)
                peak = re.match(r"(\S.*): (\d+ \S+/s.*)$", line)
                if step:
                    self.report.add(f"{problem}: {step[1]}", "", f"{step[2]}, {step[3]}", f"build/bench/{name}")
                elif peak:
                    self.report.add(f"{peak[1]}, beside {name}", "", peak[2], f"build/bench/{name}")
                elif line and not line.startswith(" "):
                    problem = line

    def fidelity(self) -> None:
        s, script = self.setting, ROOT / "tools/tiny/fidelity.py"
        listed = [s.program, ROOT / "models/tiny", ROOT / "tests/data/checker/world.json", s.work / "pictures"]
        exact = f"--exact=--device {s.device} --dtype f32"
        ways = [("bf16", []), (s.eight_bits, ["--arithmetic", s.eight_bits]), ("int8", ["--arithmetic", "int8"])]
        for (way, options), outliers in [(way, factor) for factor in (0, 64) for way in ways]:
            planted = ["--outliers", outliers] if outliers else []
            given = [exact, f"--options={' '.join(['--device', s.device, *options])}", "--captions", s.captions, *planted]
            done = output_of([sys.executable, script, *listed, *given])
            got = json.loads(done.stdout[done.stdout.index("{") :])
            psnr, ssim = got["psnr"], got["ssim"]
            name = f"pictures beside f32, {way}" + (f", outliers of {outliers}" if outliers else "")
            measured = f"PSNR {psnr['median']:.2f} dB, 10th percentile {psnr['tenth_percentile']:.1f}, least {psnr['least']:.1f}; SSIM {ssim['median']:.4f}"
            self.report.add(name, "", measured, "tools/tiny/fidelity.py")

    def errors(self) -> None:
        """Of the stages of small random models beside diffusers', the greatest that the tests saw."""
        told = self.setting.work / "errors.json"
        kinds = "cpu" if self.setting.device == "cpu" else "cuda"
        chosen = ":".join(f"*/{suite}.*/{kinds}*" for suite in ("TransformerParityTest", "VaeParityTest", "TextEncoderParityTest"))
        program = self.setting.benches.parent / "tests/model_test"
        output_of([program, f"--gtest_filter={chosen}", f"--gtest_output=json:{told}"])
        worst: dict[tuple[str, str], float] = {}
        for suite in json.loads(told.read_text())["testsuites"]:
            for test in suite["testsuite"]:
                stage, device = test["name"].split("/")
                if "error" in test:
                    key = (f"{suite['name'].split('/')[1].removesuffix('ParityTest')}, {stage}", device.split("_random")[0])
                    worst[key] = max(worst.get(key, 0.0), float(test["error"]))
        if not worst:
            raise Failed("the tests told no errors; were they skipped?")
        for (stage, device), error in worst.items():
            self.report.add(f"{stage}, {device}", "", f"{error:.1e}", "build/tests/model_test --gtest_output=json")

    def rounding(self) -> None:
        """What a full-size block adds to its streams, beside f32 on the CPU."""
        for run in self.benchmarks("rounding_bench", "--benchmark_filter=on_gpu"):
            measured = f"{run['error']:.2e}, with planted outliers {run['outliers']:.2e}"
            name = f"error of a block at 512, {run['name'].split('/')[1]}"
            self.report.add(name, "", measured, "build/bench/rounding_bench --benchmark_filter=on_gpu")


TABLE = ["passes", "idle", "decoder", "encoder", "link", "cfg", "denoise", "start", "picture", "memory"]
BESIDE = ["kernels", "ladders", "errors", "rounding", "fidelity"]


def head(commit: str) -> str:
    card = first_line("nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader") or "no GPU"
    name, *more = [word.strip() for word in card.split(",")]
    driver = f", driver {more[0]}, {more[1]}" if len(more) == 2 else ""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, commit {commit}, {name}{driver}; {os.cpu_count()} cores, {gigabytes:.0f} GB."


def clear(work: pathlib.Path, is_ours: bool) -> None:
    for made in [work] if is_ours else [work / "pictures", work / "picture.png", work / "errors.json"]:
        if made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        else:
            made.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="of the build, for the head of the table where the tree is no repository")
    parser.add_argument("parts", nargs="*", help=f"of the table: {', '.join(TABLE)} (all of them if none is given); beside it: {', '.join(BESIDE)}")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--work", type=pathlib.Path, help="folder for models and pictures; without it a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave models and pictures in --work")
    parser.add_argument("--turns", type=int, help=f"how often each is measured, in turns; default {TURNS}, passes {PASS_TURNS}")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU, to try this script")
    options = parser.parse_intermixed_args()
    if wrong := set(options.parts) - {*TABLE, *BESIDE}:
        parser.error(f"{', '.join(sorted(wrong))}: parts are {', '.join(TABLE + BESIDE)}")
    work = options.work or pathlib.Path(tempfile.mkdtemp(prefix="inkstone-measure-"))
    work.mkdir(parents=True, exist_ok=True)
    setting = Setting(str(options.build / "inkstone"), options.build / "bench", work)
    if options.rehearse:
        setting = rehearsal(setting)
    if options.turns:
        setting.turns = setting.pass_turns = options.turns
    report = Report()
    measure = Measure(setting, report)
    try:
        for part in options.parts or TABLE:
            begin = time.monotonic()
            try:
                getattr(measure, part)()
            except (Failed, OSError, KeyError, ValueError) as error:
                report.fail(part, f"{type(error).__name__}: {error}")
            progress(f"{part}: {time.monotonic() - begin:.0f} s")
    finally:
        report.print_table(head(commit_of(ROOT) or options.commit))
        if not options.keep:
            measure.models.clear()
            clear(work, is_ours=options.work is None)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
