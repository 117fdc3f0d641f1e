"""Times the parts that `inkstone bench` times in PyTorch and diffusers: one block of the transformer and the VAE's decoder, on random
weights in bf16 on a GPU, eager and compiled. Run it just before or after `inkstone bench --device cuda` on the same card.

    python tools/bench_torch.py block 512 1024
    python tools/bench_torch.py vae 512 1024
"""

import argparse
import statistics

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope, QwenImageTransformerBlock

WIDTH, HEADS, HEAD_WIDTH = 3072, 24, 128
TEXT_TOKENS = 64  # as in `inkstone bench block`
PIXELS_PER_LATENT = 8
RUNS = 20


def seconds(work) -> float:
    """Median of the device's time for one call, after two that warm up."""
    times = []
    for run in range(RUNS + 2):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if run >= 2:
            times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def make_block(size: int):
    side = size // (2 * PIXELS_PER_LATENT)
    block = QwenImageTransformerBlock(dim=WIDTH, num_attention_heads=HEADS, attention_head_dim=HEAD_WIDTH)
    block = block.to("cuda", torch.bfloat16).eval()
    rope = QwenEmbedRope(theta=10000, axes_dim=[16, 56, 56], scale_rope=True)
    rotary = rope([[(1, side, side)]], device=torch.device("cuda"), max_txt_seq_len=TEXT_TOKENS)
    arguments = {
        "hidden_states": random(1, side * side, WIDTH),
        "encoder_hidden_states": random(1, TEXT_TOKENS, WIDTH),
        "encoder_hidden_states_mask": None,
        "temb": random(1, WIDTH),
        "image_rotary_emb": rotary,
    }
    return block, arguments


def make_decoder(size: int):
    vae = AutoencoderKLQwenImage().to("cuda", torch.bfloat16).eval()
    side = size // PIXELS_PER_LATENT
    return vae.decode, {"z": random(1, 16, 1, side, side)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["block", "vae"])
    parser.add_argument("size", type=int, nargs="+", help="pixels of a side")
    options = parser.parse_args()
    make = make_block if options.part == "block" else make_decoder
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    with torch.inference_mode():
        for size in options.size:
            call, arguments = make(size)
            compiled = torch.compile(call, dynamic=False)
            eager_s, compiled_s = seconds(lambda: call(**arguments)), seconds(lambda: compiled(**arguments))
            times = f"eager {eager_s * 1e3:.3f} ms, compiled {compiled_s * 1e3:.3f} ms"
            print(f"{options.part} at {size}x{size}: {times}", flush=True)


if __name__ == "__main__":
    main()
