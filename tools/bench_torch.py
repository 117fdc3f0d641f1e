"""Times in PyTorch and diffusers what `inkstone bench` and `bench/` time, on random weights: a forward pass of the transformer, one block, its
products alone, the VAE's decoder and the text encoder; eager, compiled, and compiled with cuDNN's attention. `attention` and `convolution` are those of a block and of
the decoder alone, by cuDNN on a GPU. With --inkstone the program runs `inkstone bench`, or the program of bench/ beside it, between its own parts, so that ratios are of one
machine and one minute.

    python tools/bench_torch.py forward block vae 512 1024 --inkstone build/inkstone
    python tools/bench_torch.py block 512 --device cpu --type f32 --runs 5 --eager
    python tools/bench_torch.py products 512 --device cpu --type int8 --runs 9
    python tools/bench_torch.py attention convolution 512 1024 1328 --inkstone build/inkstone
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

WIDTH, HEADS, HEAD_WIDTH = 3072, 24, 128
TEXT_TOKENS, TEMPLATE_TOKENS = 64, 34  # as in `inkstone bench`
TEXT_WIDTH, LATENT_FEATURES = 3584, 64
PIXELS_PER_LATENT = 8
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "int8": torch.int8}
LAYERS = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}  # in, out
CONVOLUTIONS = [(8, 384), (2, 192), (1, 96)]  # of the decoder: pixels of the picture's side for one of theirs, channels in and out
PARTS = ["forward", "block", "products", "vae", "encoder", "attention", "convolution"]
BLOCKS, IN_A_ROW = 60, 6  # of the transformer; measured by `inkstone bench block`
HAVE_ATTENTION = ("forward", "block")  # of a width that cuDNN has
ALONE = ("attention", "convolution")  # one operation, of which calls follow each other as in the programs of bench/
CALLS_IN_A_ROW = 20
ATTENTION_BENCHES = {512: "transformer_512", 1024: "transformer_1024"}  # by pixels of a side
CONV_BENCHES = {(64, 384): "middle_64", (128, 384): "block_128", (256, 192): "block_256", (512, 96): "block_512", (1024, 96): "block_1024"}
MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


def device_seconds(work) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def wall_seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@dataclasses.dataclass
class Alone:
    """One operation: PyTorch's ways (call, backend of attention), and the program in bench/ with the benchmark of ours."""

    name: str
    flop: float
    ways: dict
    bench: str
    benchmark: str | None


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.device, self.runs, self.dtype, self.layers = options.device, options.runs, TYPES[options.type], options.layers
        self.measure = device_seconds if self.device == "cuda" else wall_seconds
        self.transformer = None

    def seconds(self, work) -> float:
        """Median of one call, after two that warm up."""
        return statistics.median([self.measure(work) for _ in range(self.runs + 2)][2:])

    def random(self, *shape: int) -> torch.Tensor:
        if self.dtype == torch.int8:
            return torch.randint(-127, 128, shape, device=self.device, dtype=torch.int8)
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def one_block(self):
        from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock

        with torch.device(self.device):
            block = QwenImageTransformerBlock(dim=WIDTH, num_attention_heads=HEADS, attention_head_dim=HEAD_WIDTH)
        return block.to(self.dtype).eval()

    def forward(self, size: int):
        from diffusers import QwenImageTransformer2DModel

        if self.transformer is None:  # block by block, since all of them in f32 would not fit a GPU
            model = QwenImageTransformer2DModel(num_layers=0, in_channels=LATENT_FEATURES, joint_attention_dim=TEXT_WIDTH)
            model = model.to(self.device, self.dtype).eval()
            model.transformer_blocks.extend(self.one_block() for _ in range(self.layers))
            self.transformer = model
        side = size // (2 * PIXELS_PER_LATENT)
        arguments = {
            "hidden_states": self.random(1, side * side, LATENT_FEATURES),
            "encoder_hidden_states": self.random(1, TEXT_TOKENS, TEXT_WIDTH),
            "timestep": torch.full((1,), 0.5, device=self.device, dtype=self.dtype),
            "img_shapes": [[(1, side, side)]],
            "return_dict": False,
        }
        yield "forward", self.transformer, arguments

    def block(self, size: int):
        from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope

        side = size // (2 * PIXELS_PER_LATENT)
        rope = QwenEmbedRope(theta=10000, axes_dim=[16, 56, 56], scale_rope=True)
        rotary = rope([[(1, side, side)]], device=torch.device(self.device), max_txt_seq_len=TEXT_TOKENS)
        arguments = {
            "hidden_states": self.random(1, side * side, WIDTH),
            "encoder_hidden_states": self.random(1, TEXT_TOKENS, WIDTH),
            "encoder_hidden_states_mask": None,
            "temb": self.random(1, WIDTH),
            "image_rotary_emb": rotary,
        }
        yield "block", self.one_block(), arguments

    def vae(self, size: int):
        from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage

        vae = AutoencoderKLQwenImage().to(self.device, self.dtype).eval()
        side = size // PIXELS_PER_LATENT
        yield "vae", vae.decode, {"z": self.random(1, 16, 1, side, side)}

    def encoder(self, _size: int):
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

        config = Qwen2_5_VLTextConfig(
            vocab_size=TEXT_TOKENS,
            hidden_size=TEXT_WIDTH,
            intermediate_size=18944,
            num_hidden_layers=min(self.layers, 28),
            num_attention_heads=28,
            num_key_value_heads=4,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        )
        with torch.device(self.device):
            model = Qwen2_5_VLTextModel(config).to(self.dtype).eval()
        ids = torch.randint(0, TEXT_TOKENS, (1, TEXT_TOKENS + TEMPLATE_TOKENS), device=self.device)
        yield "encoder", model, {"input_ids": ids, "use_cache": False}

    def products(self, size: int):
        """Of the picture's and the text's rows with each matrix of a block; those of int8 give sums, without scales."""
        multiply = torch._int_mm if self.dtype == torch.int8 else torch.matmul
        pixels = (size // (2 * PIXELS_PER_LATENT)) ** 2
        for name, (inputs, outputs) in LAYERS.items():
            weight = self.random(outputs, inputs).t()
            img, txt = self.random(pixels, inputs), self.random(TEXT_TOKENS, inputs)

            def both(img: torch.Tensor, txt: torch.Tensor, weight: torch.Tensor):
                return multiply(img, weight), multiply(txt, weight)

            yield name, both, {"img": img, "txt": txt, "weight": weight}

    def attention(self, size: int):
        """Of a block, without a mask; rows lie as in diffusers, all heads of a token together."""
        tokens = (size // (2 * PIXELS_PER_LATENT)) ** 2 + TEXT_TOKENS
        q, k, v = (self.random(1, tokens, HEADS, HEAD_WIDTH).transpose(1, 2) for _ in range(3))

        def call():
            torch.nn.functional.scaled_dot_product_attention(q, k, v)

        ways = {"FlashAttention": (call, SDPBackend.FLASH_ATTENTION)}
        if self.device == "cuda":
            ways["cuDNN"] = (call, SDPBackend.CUDNN_ATTENTION)
        flop = 4.0 * tokens**2 * HEADS * HEAD_WIDTH
        yield Alone(f"attention of {tokens} rows", flop, ways, "attention_bench", ATTENTION_BENCHES.get(size))

    def convolution(self, size: int):
        """Of 3x3, channels last, without a bias; cuDNN tries its kernels before the first is timed."""
        torch.backends.cudnn.benchmark = True
        for pixels, channels in CONVOLUTIONS:
            side = size // pixels
            x = self.random(1, channels, side, side).to(memory_format=torch.channels_last)
            weight = self.random(channels, channels, 3, 3).to(memory_format=torch.channels_last)

            def call(x: torch.Tensor = x, weight: torch.Tensor = weight):
                torch.nn.functional.conv2d(x, weight, padding=1)

            flop = 2.0 * 9 * side**2 * channels**2
            way = "cuDNN" if self.device == "cuda" else "PyTorch"
            yield Alone(f"convolution {side}x{side}, {channels} channels", flop, {way: (call, None)}, "conv_bench", CONV_BENCHES.get((side, channels)))

    def compiled(self, part: str, call):
        """A transformer is compiled block by block, as diffusers recommends: all at once takes minutes."""
        torch._dynamo.reset()  # which attention is taken is settled while compiling
        if part != "forward":
            return torch.compile(call, dynamic=False)
        call.compile_repeated_blocks(dynamic=False)
        return call

    def times(self, part: str, call, arguments: dict, options: argparse.Namespace):
        """Gives (way, seconds)."""
        with torch.compiler.set_stance("force_eager"):  # a transformer is compiled in place, perhaps at a size before
            eager = self.seconds(lambda: call(**arguments))
        yield "eager", eager
        if options.eager:
            return
        ways = [("compiled", contextlib.nullcontext)]
        if part in HAVE_ATTENTION and self.device == "cuda":
            ways.append(("compiled, cuDNN attention", lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION)))
        for way, attention in ways:
            with attention():
                work = self.compiled(part, call)
                try:
                    yield way, self.seconds(lambda: work(**arguments))
                except RuntimeError as error:  # cuDNN may have none for this device
                    print(f"{part}, {way}: {str(error).splitlines()[0]}", flush=True)


def inkstone_ways(part: str, options: argparse.Namespace) -> list[tuple[str, list[str], float]]:
    """(name, arguments of `inkstone bench`, what to multiply its time with)"""
    shared = ["--device", options.device, "--format", options.type]
    if part == "vae":
        return [("Inkstone", ["vae", *shared], 1)]
    if part == "encoder":
        return [("Inkstone", ["encoder", "--layers", str(min(options.layers, 28)), *shared], 1)]
    if part not in HAVE_ATTENTION:
        return []
    in_a_row = min(IN_A_ROW, options.layers)
    factor = (options.layers if part == "forward" else 1) / in_a_row
    blocks = ["block", "--layers", str(in_a_row), *shared]
    ways = [("Inkstone", blocks, factor)]
    return ways + [("Inkstone, FP8", [*blocks, "--arithmetic", "fp8"], factor)] if options.device == "cuda" else ways


def inkstone_seconds(options: argparse.Namespace, arguments: list[str], size: int) -> float:
    command = [options.inkstone, "bench", *arguments, "--size", str(size), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["median_s"]


def bench_seconds(options: argparse.Namespace, alone: Alone) -> float:
    """Median of what the program in bench/ tells of its benchmark."""
    program = pathlib.Path(options.inkstone).parent / "bench" / alone.bench
    function = alone.bench.removesuffix("_bench").replace("conv", "conv2d")
    command = [program, f"--benchmark_filter=^{function}/{alone.benchmark}/", "--benchmark_repetitions=3", "--benchmark_min_time=0.15", "--benchmark_format=json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "INKSTONE_DEVICE": options.device})
    runs = [run for run in json.loads(told.stdout)["benchmarks"] if run["run_type"] == "iteration"]
    return statistics.median(run["real_time"] * MILLISECONDS[run["time_unit"]] / 1e3 for run in runs)


def in_a_row(bench: Bench, call):
    """CALLS_IN_A_ROW calls. On a GPU they are recorded, so that what Python does for a call is not in their time."""

    def calls():
        for _ in range(CALLS_IN_A_ROW):
            call()

    if bench.device != "cuda":
        return calls
    call()  # kernels are chosen before the recording
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    return graph.replay


def measure_alone(bench: Bench, name: str, size: int, options: argparse.Namespace) -> None:
    for alone in getattr(bench, name)(size):
        own = None
        if options.inkstone and alone.benchmark:
            torch.cuda.empty_cache()
            own = bench_seconds(options, alone)
            print(f"{alone.name}: Inkstone {own * 1e3:.4f} ms, {alone.flop / own / 1e12:.3g} TFLOP/s", flush=True)
        for way, (call, attention) in alone.ways.items():
            try:
                with sdpa_kernel(attention) if attention else contextlib.nullcontext():
                    seconds = bench.seconds(in_a_row(bench, call)) / CALLS_IN_A_ROW
            except RuntimeError as error:  # not every device has every way
                print(f"{alone.name}: {way}: {str(error).splitlines()[0]}", flush=True)
                continue
            ratio = f", {seconds / own:.2f} of Inkstone's time" if own else ""
            print(f"{alone.name}: {way} {seconds * 1e3:.4f} ms, {alone.flop / seconds / 1e12:.3g} TFLOP/s{ratio}", flush=True)


def measure_part(bench: Bench, name: str, size: int, options: argparse.Namespace) -> None:
    for part, call, arguments in getattr(bench, name)(size):
        ours = []
        if options.inkstone:
            torch.cuda.empty_cache()
            for way, command, factor in inkstone_ways(name, options):
                ours.append((way, factor * inkstone_seconds(options, command, size)))
        for way, seconds in ours:
            print(f"{part} at {size}x{size}: {way} {seconds * 1e3:.3f} ms", flush=True)
        for way, seconds in bench.times(name, call, arguments, options):
            ratios = "".join(f", {seconds / own:.2f} of {of}" for of, own in ours)
            print(f"{part} at {size}x{size}: {way} {seconds * 1e3:.3f} ms{ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help=f"parts ({', '.join(PARTS)}), then pixels of a side")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--type", choices=TYPES, default="bf16", help="int8: of products only")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--layers", type=int, default=BLOCKS, help="of forward and encoder, which has at most 28")
    parser.add_argument("--eager", action="store_true", help="not compiled as well")
    parser.add_argument("--inkstone", metavar="PROGRAM", help="times `PROGRAM bench` too, and gives ratios to it")
    options = parser.parse_args()
    parts = [word for word in options.what if not word.isdigit()]
    sizes = [int(word) for word in options.what if word.isdigit()]
    if not parts or not sizes or set(parts) - set(PARTS):
        parser.error(f"one or more of {', '.join(PARTS)}, then one or more sizes")
    if options.type == "int8" and parts != ["products"]:
        parser.error("--type int8: only products have it")
    bench = Bench(options)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    cudnn = f", cuDNN {torch.backends.cudnn.version()}" if options.device == "cuda" else ""
    print(f"{name}, PyTorch {torch.__version__}{cudnn}, {options.type}", flush=True)
    with torch.inference_mode():
        for part in parts:
            for size in sizes:
                (measure_alone if part in ALONE else measure_part)(bench, part, size, options)
            bench.transformer = None


if __name__ == "__main__":
    main()
