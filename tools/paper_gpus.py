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

# Bytes a weight on the card, bytes that expanding it moves, the arithmetic of products.
WAYS = {
    "bf16": (2, 0, "bf16"),
    "int4 weights": (7.5 / 13.6, 2 + 7.5 / 13.6, "bf16"),
    "`--arithmetic int8`": (1.01, 0, "int8"),
}


def pass_seconds(card: str, way: str, size: int, passes: int) -> tuple[float, int]:
    """Of so many passes in one batch, and how many blocks are streamed."""
    processors, clock, memory, link, gib = CARDS[card]
    size_of_weight, expanded, arithmetic = WAYS[way]
    rows = (size // 16) ** 2 + TEXT_ROWS
    limit = {name: operations * processors * clock * 1e9 * SHARE[size] for name, operations in OPERATIONS.items()}
    products = 2 * rows * WEIGHTS / 2 / limit[arithmetic]
    attention = 4 * rows**2 * WIDTH / limit["bf16"]
    moved = (passes * PASS_BYTES * rows + expanded * WEIGHTS) / (memory * 1e9 * PASS_SHARE)
    work = BLOCKS * (passes * (products + attention) + moved)
    block = size_of_weight * WEIGHTS
    room = gib * 2**30 - SPARE
    streamed = 0 if BLOCKS * block <= room else BLOCKS - int((room - 2 * block) // block)  # two on their way
    return max(work, streamed * block / (link * 1e9)), streamed


def main() -> None:
    print("| card | weights | blocks streamed | pass at 512 | 1024 | 1328 | 50 steps, CFG 4, 1024 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for card, (*_, gib) in CARDS.items():
        for way in WAYS:
            times = [pass_seconds(card, way, size, 1)[0] for size in SHARE]
            step, streamed = pass_seconds(card, way, 1024, CFG_PASSES)
            passes = " | ".join(f"{seconds:.2f} s" for seconds in times)
            print(f"| {card}, {gib} GB | {way} | {streamed} of {BLOCKS} | {passes} | {STEPS * step:.0f} s |")


if __name__ == "__main__":
    main()
