"""Writes a transformer's GGUF file of random blocks, of any size, for rehearsals: `inkstone random-model` writes safetensors only.

    python random_gguf.py TRANSFORMER_DIR TYPE OUT.gguf [--layers N]

TRANSFORMER_DIR: a folder of safetensors in diffusers' names, such as `inkstone random-model --format bf16|int4` makes; block 0 of it is repeated N times
(default: as many as there are). TYPE: q4_0 or q4_k, of the blocks' matrices; their numbers are even in [-0.03, 0.03], about as the published ones spread.
All else is copied, in F32 where packed or a vector."""
import argparse
import pathlib
import re

import gguf
import numpy as np
import torch
from safetensors import safe_open

GREATEST = 0.03
POOL = 1 << 20  # different blocks, which come again and again: so writing takes the disk's time
BLOCK = re.compile(r'transformer_blocks\.(\d+)\.(.*)')
TYPES = {kind.name.lower(): kind for kind in (gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_K)}


def half(number):
    return np.array([number], np.float16).view(np.uint8)


def random_blocks(kind, count, generator):
    """-> (count, bytes of a block): any codes, scales that spread the numbers evenly over [-GREATEST, GREATEST]"""
    blocks = generator.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    if kind.name == 'Q4_0':  # d, 32 codes of 4 bits that mean code - 8
        blocks[:, :2] = half(GREATEST / 8)
        return blocks
    # d, dmin, 8 scales and minima of 6 bits in 12 bytes, 256 codes of 4 bits: d * scale * code - dmin * minimum, here with all scales 17 and minima 34
    blocks[:, :2], blocks[:, 2:4] = half(GREATEST / 8 / 17), half(GREATEST / 34)
    blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16] = 17, 34, 17 % 16 | 34 % 16 << 4
    return blocks


class Source:
    def __init__(self, folder):
        self.files = [safe_open(path, 'pt') for path in sorted(pathlib.Path(folder).glob('*.safetensors'))]
        self.file_of = {name: file for file in self.files for name in file.keys()}

    def shape(self, name):
        """(out, in), of packed matrices too"""
        part = self.file_of[name].get_slice(name)
        out, *rest = part.get_shape()
        return (out, rest[0] * {'U32': 8, 'U8': 1}.get(part.get_dtype(), 1)) if rest else (out,)

    def numbers(self, name):
        tensor = self.file_of[name].get_tensor(name)
        layer = name.removesuffix('weight')
        if tensor.dtype != torch.uint32:
            return tensor.float().numpy()
        codes = tensor.numpy().view(np.uint8).astype(np.int64)
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(*self.shape(name))
        scales, offsets = (self.file_of[layer + part].get_tensor(layer + part).float().numpy() for part in ('scales', 'biases'))
        group = codes.shape[1] // scales.shape[1]
        return (codes * scales.repeat(group, 1) + offsets.repeat(group, 1)).astype(np.float32)


def names_of(source, layers):
    """-> {name: the one in the source that it is made of}"""
    names = [n for n in source.file_of if not n.endswith(('.scales', '.biases', '.offsets'))]
    made = {n: n for n in names if not BLOCK.match(n)}
    rest = [BLOCK.match(n)[2] for n in names if n.startswith('transformer_blocks.0.')]
    count = layers or 1 + max(int(BLOCK.match(n)[1]) for n in names if BLOCK.match(n))
    return made | {f'transformer_blocks.{i}.{r}': f'transformer_blocks.0.{r}' for i in range(count) for r in rest}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source')
    parser.add_argument('type', choices=TYPES)
    parser.add_argument('out')
    parser.add_argument('--layers', type=int)
    arguments = parser.parse_args()
    kind, source = TYPES[arguments.type], Source(arguments.source)
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    names, writer = names_of(source, arguments.layers), gguf.GGUFWriter(arguments.out, 'qwen_image')
    packed = {n for n in names if BLOCK.match(n) and len(source.shape(names[n])) == 2}
    for name, origin in names.items():
        *out, rows = source.shape(origin)
        if name in packed:
            row = rows // numbers * size
            writer.add_tensor_info(name, (*out, row), np.dtype(np.uint8), out[0] * row, raw_dtype=kind)
        else:
            writer.add_tensor_info(name, (*out, rows), np.dtype(np.float32), 4 * rows * (out[0] if out else 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file, pool = writer.fout[0], random_blocks(kind, POOL, np.random.default_rng(0))
    for name, origin in names.items():
        writer.write_padding(file, file.tell())
        if name not in packed:
            file.write(source.numbers(origin).tobytes())
            continue
        out, inputs = source.shape(origin)
        for begin in range(0, out * inputs // numbers, POOL):
            file.write(pool[:out * inputs // numbers - begin].tobytes())
    writer.write_padding(file, file.tell())
    writer.close()


if __name__ == '__main__':
    main()
