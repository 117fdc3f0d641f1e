"""Matrices as blocks of GGUF files whose types the package gguf only reads: the K types and IQ4. Scales are the best of a few lengths by squared error of
a group; llama.cpp's own searches are longer, so its files are somewhat better than these."""
import numpy as np

REACHES = (1.05, 1, .95, .9, .85, .8)  # parts of a group's span that the codes cover
STEPS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)  # of IQ4's codes
BLOCK = 256


def quotient(a, b):
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), np.float32), where=b != 0)


def best(x, ways):
    """x (..., n); ways: of (parameters..., what they make of x). -> the parameters with the least error, for each group"""
    chosen, least = None, None
    for *parameters, made in ways:
        error = ((made - x) ** 2).sum(-1)
        better = error < least if chosen else np.ones(error.shape, bool)
        least = np.where(better, error, least) if chosen else error
        chosen = [np.where(better, new, old) for new, old in zip(parameters, chosen or parameters)]
    return chosen


def span(x, most):
    """Scale and offset >= 0 of groups (..., n): x is about scale * code - offset, codes 0 to most"""
    offset = np.maximum(-x.min(-1), 0)
    length = x.max(-1) + offset

    def ways():
        for reach in REACHES:
            scale = reach * length / most
            codes = np.clip(np.rint(quotient(x + offset[..., None], scale[..., None])), 0, most)
            yield scale, offset, scale[..., None] * codes - offset[..., None]
    return best(x, ways())


def largest(x):
    """The number of greatest size of each group, with its sign"""
    return np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]


def centred(x, nearest, extreme):
    """Scale of groups (..., n) whose largest number has the code `extreme`; nearest(x / scale) are the codes' numbers"""
    def ways():
        for reach in REACHES:
            scale = reach * largest(x) / extreme
            yield scale, scale[..., None] * nearest(quotient(x, scale[..., None]))
    return best(x, ways())[0]


def half(x):
    return x.astype(np.float16)[:, None].view(np.uint8)


def shared(scales, most):
    """(blocks, groups) scales as whole numbers up to `most` times one half: the numbers, the half's bytes and its value"""
    d = (np.abs(scales).max(-1) / most).astype(np.float16)
    whole = np.rint(quotient(scales, d.astype(np.float32)[:, None])).clip(-most - 1, most)
    return whole.astype(np.int32), half(d), d.astype(np.float32)[:, None]


def codes_in_spans(x, most, scale_most):
    """Groups (blocks, groups, n) of codes 0 to most -> codes, whole scales and offsets, the two halves' bytes"""
    scales, offsets = span(x, most)
    s, d_bytes, d = shared(scales, scale_most)
    m, min_bytes, d_min = shared(offsets, scale_most)
    codes = np.rint(quotient(x + (d_min * m)[..., None], (d * s)[..., None])).clip(0, most)
    return codes.astype(np.uint8), s.astype(np.uint8), m.astype(np.uint8), np.concatenate([d_bytes, min_bytes], 1)


def six_bits(s, m):
    return np.concatenate([s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4], 1)


def nibbles(codes):
    """(blocks, groups, 2 n) -> the first n in the lower halves"""
    low, high = np.split(codes, 2, axis=-1)
    return (low | high << 4).reshape(len(codes), -1)


def two_bits(codes):
    """(blocks, 256) -> bytes of four codes that are 32 apart"""
    return sum(part << 2 * i for i, part in enumerate(codes.reshape(-1, 2, 4, 32).transpose(2, 0, 1, 3))).astype(np.uint8).reshape(len(codes), 64)


def bit_planes(bits):
    """(blocks, 8, 32) of 0 and 1 -> (blocks, 32), bit i of the i-th row"""
    return sum(bits[:, i] << i for i in range(8)).astype(np.uint8)


def q2_k(x):
    codes, s, m, halves = codes_in_spans(x.reshape(-1, 16, 16), 3, 15)
    return [s | m << 4, two_bits(codes.reshape(-1, BLOCK)), halves]


def q3_k(x):
    x = x.reshape(-1, 16, 16)
    s, d_bytes, d = shared(centred(x, lambda v: np.rint(v).clip(-4, 3), -4), 31)
    codes = (np.rint(quotient(x, (d * s)[..., None])).clip(-4, 3) + 4).astype(np.uint8).reshape(-1, BLOCK)
    s = (s + 32).astype(np.uint8)
    high = sum((s >> 4)[:, 4 * i:4 * i + 4] << 2 * i for i in range(4)).astype(np.uint8)
    scales = np.concatenate([s[:, :8] & 15 | (s[:, 8:] & 15) << 4, high], 1)
    return [bit_planes(codes.reshape(-1, 8, 32) >> 2), two_bits(codes & 3), scales, d_bytes]


def q4_k(x):
    codes, s, m, halves = codes_in_spans(x.reshape(-1, 8, 32), 15, 63)
    return [halves, six_bits(s, m), nibbles(codes.reshape(-1, 4, 64))]


def q5_k(x):
    codes, s, m, halves = codes_in_spans(x.reshape(-1, 8, 32), 31, 63)
    return [halves, six_bits(s, m), bit_planes(codes >> 4), nibbles((codes & 15).reshape(-1, 4, 64))]


def q6_k(x):
    x = x.reshape(-1, 16, 16)
    s, d_bytes, d = shared(centred(x, lambda v: np.rint(v).clip(-32, 31), -32), 127)
    codes = (np.rint(quotient(x, (d * s)[..., None])).clip(-32, 31) + 32).astype(np.uint8)
    low = nibbles((codes & 15).reshape(-1, 2, 128))
    high = sum(part << 2 * i for i, part in enumerate((codes >> 4).reshape(-1, 2, 4, 32).transpose(2, 0, 1, 3))).astype(np.uint8)
    return [low, high.reshape(-1, 64), s.astype(np.int8).view(np.uint8), d_bytes]


def step_code(v):
    return np.abs(v[..., None] - STEPS).argmin(-1)


def iq4_nl(x):
    x = x.reshape(-1, 32)
    d = centred(x, lambda v: STEPS[step_code(v)], -127).astype(np.float16)
    return [half(d), nibbles(step_code(quotient(x, d.astype(np.float32)[:, None])).astype(np.uint8)[:, None])]


def iq4_xs(x):
    x = x.reshape(-1, 8, 32)
    s, d_bytes, d = shared(centred(x, lambda v: STEPS[step_code(v)], -127), 31)
    codes = step_code(quotient(x, (d * s)[..., None])).astype(np.uint8)
    s = (s + 32).astype(np.uint16)
    high = sum((s >> 4)[:, i] << 2 * i for i in range(8)).astype(np.uint16)[:, None].view(np.uint8)
    low = (s[:, ::2] & 15 | (s[:, 1::2] & 15) << 4).astype(np.uint8)
    return [d_bytes, high, low, nibbles(codes)]


PACKERS = dict(q2_k=q2_k, q3_k=q3_k, q4_k=q4_k, q5_k=q5_k, q6_k=q6_k, iq4_nl=iq4_nl, iq4_xs=iq4_xs)


def pack(matrix, kind):
    """(out, in) f32 -> (out, bytes of a row)"""
    return np.concatenate(PACKERS[kind](matrix.astype(np.float32)), axis=1).reshape(len(matrix), -1)
