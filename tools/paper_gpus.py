"""What consumer GPUs would take, on paper, as a table in Markdown: nobody ran this. docs/performance-cuda.md says where the constants come from.

    python tools/paper_gpus.py
"""

WIDTH, BLOCKS, TEXT_ROWS = 3072, 60, 64
WEIGHTS = 2 * 12 * WIDTH * WIDTH  # of a block: 4 + 8 times the width squared for each stream
STEPS, CFG_PASSES = 50, 2

# Multiprocessors, GHz, GB/s of memory and of the link, GiB.
CARDS = {
    "RTX 4070": (46, 2.475, 504, 25, 12),
    "RTX 4080": (76, 2.505, 717, 25, 16),
    "RTX 3090": (82, 1.695, 936, 25, 24),
    "RTX 4090": (128, 2.520, 1008, 25, 24),
    "RTX 5090": (170, 2.407, 1792, 50, 32),
}
OPERATIONS = {"bf16": 512, "int8": 2048}  # dense with 32-bit sums, a clock of a multiprocessor
SHARE = {512: 0.6, 1024: 0.7, 1328: 0.7}  # of them, and of memory's rate in passes:
PASS_SHARE = 0.5
PASS_BYTES = 100e3  # of norms, joins and residuals, for a row and block
SPARE = 2e9  # activations, scratch, driver

# The decoder at 1024, in bf16 whatever the weights, without Hopper's kernels: its products, and what norms and rounding between them
# read and write. With this share, and Hopper's 4.27 TFLOP and 4.8 GB, the same sum gives 10.1 and 9.2 ms of an H100's and an H200's 10.3 and 9.5.
DECODER_FLOP, DECODER_BYTES, DECODER_SHARE = 4.71e12, 12.3e9, 0.6

# Bytes a weight on the card, bytes that expanding it moves, the arithmetic of products.
WAYS = {
    "bf16": (2, 0, "bf16"),
    "int4 weights": (7.5 / 13.6, 2 + 7.5 / 13.6, "bf16"),
    "`--arithmetic int8`": (1.01, 0, "int8"),
}


def limit(card: str, arithmetic: str) -> float:
    """Operations a second."""
    processors, clock, *_ = CARDS[card]
    return OPERATIONS[arithmetic] * processors * clock * 1e9


def rate(card: str) -> float:
    """Bytes a second of its memory that passes reach."""
    return CARDS[card][2] * 1e9 * PASS_SHARE


def card_bytes(card: str) -> int:
    return CARDS[card][4] * 2**30


def block_bytes(way: str) -> float:
    return WAYS[way][0] * WEIGHTS


def streamed_blocks(card: str, way: str) -> int:
    room, block = card_bytes(card) - SPARE, block_bytes(way)
    return 0 if BLOCKS * block <= room else BLOCKS - int((room - 2 * block) // block)  # two on their way


def peak_bytes(card: str, way: str) -> float:
    """Of the card's memory while it draws."""
    streamed = streamed_blocks(card, way)
    return SPARE + (BLOCKS - streamed + min(2, streamed)) * block_bytes(way)


def pass_seconds(card: str, way: str, size: int, passes: int) -> float:
    """Of so many passes in one batch."""
    _, expanded, arithmetic = WAYS[way]
    rows = (size // 16) ** 2 + TEXT_ROWS
    products = 2 * rows * WEIGHTS / 2 / (limit(card, arithmetic) * SHARE[size])
    attention = 4 * rows**2 * WIDTH / (limit(card, "bf16") * SHARE[size])
    moved = (passes * PASS_BYTES * rows + expanded * WEIGHTS) / rate(card)
    work = BLOCKS * (passes * (products + attention) + moved)
    return max(work, streamed_blocks(card, way) * block_bytes(way) / (CARDS[card][3] * 1e9))


def decoder_seconds(card: str) -> float:
    return DECODER_FLOP / (limit(card, "bf16") * DECODER_SHARE) + DECODER_BYTES / rate(card)


def main() -> None:
    print("| card | weights | blocks streamed | memory at its peak | pass at 512 | 1024 | 1328 | 50 steps, CFG 4, 1024 | decoder at 1024 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for card, (*_, gib) in CARDS.items():
        for way in WAYS:
            passes = " | ".join(f"{pass_seconds(card, way, size, 1):.2f} s" for size in SHARE)
            steps = STEPS * pass_seconds(card, way, 1024, CFG_PASSES)
            peak = f"{peak_bytes(card, way) / 1e9:.1f} of {card_bytes(card) / 1e9:.1f} GB"
            print(f"| {card}, {gib} GB | {way} | {streamed_blocks(card, way)} of {BLOCKS} | {peak} | {passes} | {steps:.0f} s | {decoder_seconds(card):.2f} s |")


if __name__ == "__main__":
    main()
