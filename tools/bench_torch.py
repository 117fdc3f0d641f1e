"""Times in PyTorch and diffusers what `inkstone bench` and `bench/` time: one block of the transformer, its products alone, and the VAE's
decoder, on random weights, eager and compiled. Run it just before or after the program that it is compared with, on the same machine.

    python tools/bench_torch.py block 512 1024
    python tools/bench_torch.py vae 512 1024
    python tools/bench_torch.py block 512 --device cpu --type f32 --runs 5 --eager
    python tools/bench_torch.py products 512 --device cpu --type int8 --runs 9
"""

import argparse
import statistics
import time

import torch

WIDTH, HEADS, HEAD_WIDTH = 3072, 24, 128
TEXT_TOKENS = 64  # as in `inkstone bench block`
PIXELS_PER_LATENT = 8
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "int8": torch.int8}
LAYERS = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}  # in, out


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


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.device, self.runs, self.dtype = options.device, options.runs, TYPES[options.type]
        self.measure = device_seconds if self.device == "cuda" else wall_seconds

    def seconds(self, work) -> float:
        """Median of one call, after two that warm up."""
        return statistics.median([self.measure(work) for _ in range(self.runs + 2)][2:])

    def random(self, *shape: int) -> torch.Tensor:
        if self.dtype == torch.int8:
            return torch.randint(-127, 128, shape, device=self.device, dtype=torch.int8)
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def block(self, size: int):
        from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope, QwenImageTransformerBlock

        side = size // (2 * PIXELS_PER_LATENT)
        block = QwenImageTransformerBlock(dim=WIDTH, num_attention_heads=HEADS, attention_head_dim=HEAD_WIDTH)
        block = block.to(self.device, self.dtype).eval()
        rope = QwenEmbedRope(theta=10000, axes_dim=[16, 56, 56], scale_rope=True)
        rotary = rope([[(1, side, side)]], device=torch.device(self.device), max_txt_seq_len=TEXT_TOKENS)
        arguments = {
            "hidden_states": self.random(1, side * side, WIDTH),
            "encoder_hidden_states": self.random(1, TEXT_TOKENS, WIDTH),
            "encoder_hidden_states_mask": None,
            "temb": self.random(1, WIDTH),
            "image_rotary_emb": rotary,
        }
        yield "block", block, arguments

    def vae(self, size: int):
        from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage

        vae = AutoencoderKLQwenImage().to(self.device, self.dtype).eval()
        side = size // PIXELS_PER_LATENT
        yield "vae", vae.decode, {"z": self.random(1, 16, 1, side, side)}

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["block", "vae", "products"])
    parser.add_argument("size", type=int, nargs="+", help="pixels of a side")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--type", choices=TYPES, default="bf16", help="int8: of products only")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="not compiled as well")
    options = parser.parse_args()
    if options.type == "int8" and options.part != "products":
        parser.error("--type int8: only products have it")
    bench = Bench(options)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{name}, PyTorch {torch.__version__}, {options.type}")
    with torch.inference_mode():
        for size in options.size:
            for part, call, arguments in getattr(bench, options.part)(size):
                times = f"eager {bench.seconds(lambda: call(**arguments)) * 1e3:.3f} ms"
                if not options.eager:
                    compiled = torch.compile(call, dynamic=False)
                    times += f", compiled {bench.seconds(lambda: compiled(**arguments)) * 1e3:.3f} ms"
                print(f"{part} at {size}x{size}: {times}", flush=True)


if __name__ == "__main__":
    main()
