"""What every format of weights costs in pictures: PSNR of pictures drawn from transformer and text encoder in that format against those drawn from the
model as it is (bf16, multiplied in f32).

    python formats.py PROGRAM MODEL_DIR LIST.json OUT_DIR [--captions N] [--steps N] [--threads N] [--only NAME ...]

PROGRAM: the built `inkstone`; LIST.json: one of tests/data/checker. Makes the model's files in each format in OUT_DIR (safetensors, GGUF with the package
gguf and packing.py, mflux with MLX itself, and what `inkstone quantize` makes), draws N captions (default 12) with each and prints docs/formats.md's table.
Every file holds the same matrices in its format, those that `inkstone quantize` takes; all else stays bf16. K types and IQ4_XS need rows of whole 256 numbers;
a matrix with others stays bf16, and the table says how many numbers of those matrices have the format. What is there is not made or drawn again."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fidelity import draw, psnr
from packing import PACKERS, pack

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from fixtures.mlx import TEXT_ENCODER_NAMES, TRANSFORMER_NAMES, quantise, renamed  # noqa: E402

KEPT = re.compile(r'(img_in|txt_in|time_text_embed|norm_out|proj_out|lm_head|model\.embed_tokens|model\.language_model\.embed_tokens)\b')
PARTS = dict(transformer='diffusion_pytorch_model.safetensors', text_encoder='model.safetensors')
MFLUX_NAMES = dict(transformer=TRANSFORMER_NAMES, text_encoder=TEXT_ENCODER_NAMES)
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
GREATEST = 448  # of e4m3
PROMPTS = 16    # of other captions, for --calibrate
GGUF_TYPES = 'Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K Q2_K'.split()
QUANTIZE = {'int8, groups of 64': ('int8',), 'fp8': ('fp8',), 'int4, groups of 32': ('int4', '--group', '32'), 'int4, groups of 64': ('int4',),
            'int4, groups of 64, `--calibrate`': ('int4', '--calibrate')}


def is_matrix(name, tensor):
    return tensor.dim() == 2 and name.endswith('.weight') and not KEPT.match(name)


def save(path, tensors):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, {'format': 'pt'})


def as_floats(part, tensors, path, config, dtype):
    save(path, {k: v.to(dtype) if is_matrix(k, v) else v for k, v in tensors.items()})


def as_f16(part, tensors, path, config):
    save(path, {k: v.half() for k, v in tensors.items()})


def as_scaled_fp8(part, tensors, path, config):
    made = {'scaled_fp8': torch.zeros(0, dtype=E4M3)}
    for name, tensor in tensors.items():
        made[name] = tensor
        if is_matrix(name, tensor):
            scale = tensor.float().abs().max() / GREATEST
            made[name], made[name.removesuffix('weight') + 'scale_weight'] = (tensor.float() / scale).to(E4M3), scale
    save(path, made)


def as_mflux(part, tensors, path, config, bits):
    made = {}
    for name, tensor in tensors.items():
        new = renamed(name, MFLUX_NAMES[part])
        if is_matrix(name, tensor):
            made |= {new.removesuffix('weight') + kind: value for kind, value in quantise(tensor, bits)[0].items()}
        else:
            made[new] = tensor
    save(path, made)


def gguf_writer(part, path, config):
    """As llama.cpp and ComfyUI's extension describe the parts of a model"""
    if part == 'transformer':
        return gguf.GGUFWriter(path, 'qwen_image')
    file, text = gguf.GGUFWriter(path, 'qwen2vl'), config['text_config']
    file.add_embedding_length(text['hidden_size'])
    file.add_feed_forward_length(text['intermediate_size'])
    file.add_block_count(text['num_hidden_layers'])
    file.add_head_count(text['num_attention_heads'])
    file.add_head_count_kv(text['num_key_value_heads'])
    file.add_layer_norm_rms_eps(text['rms_norm_eps'])
    file.add_rope_freq_base(text['rope_parameters']['rope_theta'])
    return file


def as_gguf(part, tensors, path, config, kind):
    file = gguf_writer(part, path, config)
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    for name, tensor in tensors.items():
        numbers, type_ = tensor.float().numpy(), gguf.GGMLQuantizationType.BF16
        if tensor.dim() == 1:
            file.add_tensor(name, numbers)
            continue
        if is_matrix(name, tensor) and numbers.shape[1] % block == 0:
            type_ = gguf.GGMLQuantizationType[kind]
        packed = pack(numbers, kind.lower()) if type_.name.lower() in PACKERS else gguf.quants.quantize(numbers, type_)
        file.add_tensor(name, packed, raw_dtype=type_)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


FILES = {'F16': (as_f16, 'safetensors'), 'F8_E4M3': (lambda *a: as_floats(*a, E4M3), 'safetensors'), 'F8_E5M2': (lambda *a: as_floats(*a, E5M2), 'safetensors'),
         'scaled fp8 (ComfyUI)': (as_scaled_fp8, 'safetensors'), 'mflux, 8 bits': (lambda *a: as_mflux(*a, 8), 'safetensors'),
         'mflux, 4 bits': (lambda *a: as_mflux(*a, 4), 'safetensors'), **{f'GGUF {kind}': (lambda *a, k=kind: as_gguf(*a, k), 'gguf') for kind in GGUF_TYPES}}


def folder_of(name, out):
    return f"{out}/{re.sub(r'[^a-z0-9_]+', '-', name.lower()).strip('-')}"


def quantized(arguments, name, prompts):
    """-> options that draw with what `inkstone quantize` makes"""
    folder, (format_, *options) = folder_of(name, arguments.out), QUANTIZE[name]
    if '--calibrate' in options:
        options.append(prompts)
    subprocess.run([arguments.program, 'quantize', arguments.model, '--format', format_, '--output', folder, '--quiet', *options], check=True, stdout=subprocess.DEVNULL)
    return {part: f'{folder}/{part}' for part in PARTS}


def written(arguments, name, weights):
    folder, (write, ending) = folder_of(name, arguments.out), FILES[name]
    os.makedirs(folder, exist_ok=True)
    files = {part: f'{folder}/{part}.{ending}' for part in PARTS}
    for part, path in files.items():
        if not os.path.exists(path):
            with open(f'{arguments.model}/{part}/config.json', encoding='utf8') as file:
                write(part, weights[part], path + '.part', json.load(file))
            os.rename(path + '.part', path)
    return files


def share(name, weights):
    """Of the numbers of all matrices, those whose rows the format can hold"""
    kind = name.removeprefix('GGUF ')
    if kind == name:
        return 1
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    matrices = [t for part in weights.values() for k, t in part.items() if is_matrix(k, t)]
    return sum(t.numel() for t in matrices if t.shape[1] % block == 0) / sum(t.numel() for t in matrices)


def decibels(value):
    return 'the same' if value > 110 else f'{value:.1f} dB'


def main(arguments):
    with open(arguments.list, encoding='utf8') as file:
        truths = json.load(file)
    spacing = max(len(truths) // arguments.captions, 1)
    os.makedirs(arguments.out, exist_ok=True)
    prompts = f'{arguments.out}/prompts.txt'
    pathlib.Path(prompts).write_text('\n'.join(t['caption'] for t in truths[1::max(len(truths) // PROMPTS, 2)]), encoding='utf8')
    truths = truths[::spacing][:arguments.captions]
    weights = {part: {k: v.bfloat16() for k, v in load_file(f'{arguments.model}/{part}/{file}').items() if not k.startswith('visual.')}
               for part, file in PARTS.items()}
    print('| format | numbers of the matrices | PSNR, median | worst |\n| --- | --- | --- | --- |')
    for name in [*FILES, *QUANTIZE]:
        if arguments.only and name not in arguments.only:
            continue
        files = written(arguments, name, weights) if name in FILES else quantized(arguments, name, prompts)
        options = ('--transformer', files['transformer'], '--text-encoder', files['text_encoder'])
        figures = []
        for t in truths:
            exact = draw(arguments, arguments.model, t, (), f"{arguments.out}/exact/{t['index']:03d}.png")
            figures.append(psnr(exact, draw(arguments, arguments.model, t, options, f"{folder_of(name, arguments.out)}/{t['index']:03d}.png")))
        print(f'| {name} | {100 * share(name, weights):.0f} % | {decibels(np.median(figures))} | {decibels(min(figures))} |', flush=True)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument in ('program', 'model', 'list', 'out'):
        p.add_argument(argument)
    p.add_argument('--captions', type=int, default=12)
    p.add_argument('--steps', type=int, default=20)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--only', nargs='+')
    main(p.parse_args())
