"""Turns what the training wrote into a model folder, checks it and draws with it.

    python export.py write RUN_DIR TOKENIZER_DIR OUT_DIR                 RUN_DIR holds vae.pt and ckpt.pt
    python export.py sheet MODEL_DIR OUT.png [STEPS] [CFG]               sheet.py's 24 captions, with diffusers' own pipeline
    python export.py draw MODEL_DIR CAPTIONS.json PNG_DIR [STEPS] [CFG]  every caption of a list, as PNG_DIR/<index>.png, for checker.py score

Needs diffusers and transformers; a CPU will do."""
import json
import os
import shutil
import sys

import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

import nets
from nets import DIT_CFG, TE_CFG, VAE_CFG
from sheet import arrange
from text import EMPTY_PROMPT

DEFAULTS = dict(steps=20, width=256, height=256, cfg=4.)  # of Inkstone for this model


def write_vae(run, out):
    stored = torch.load(run + '/vae.pt', map_location='cpu')
    mean, std = ([round(x, 5) for x in stored[k].tolist()] for k in ('mean', 'std'))
    vae, weights = AutoencoderKLQwenImage(**VAE_CFG, latents_mean=mean, latents_std=std).eval(), {}
    for name, tensor in vae.state_dict().items():
        weights[name] = torch.zeros_like(tensor)
        if 'time_conv' in name:
            continue
        if tensor.dim() == 5:
            weights[name][:, :, -1] = stored['sd'][name]  # one frame meets the last slice of time only
        else:
            weights[name] = stored['sd'][name].reshape(tensor.shape)
    vae.load_state_dict(weights)
    ours, x = nets.VAE(**VAE_CFG), torch.rand(1, 3, 64, 96) * 2 - 1
    ours.load_state_dict(stored['sd'])
    with torch.no_grad():
        z = ours.encode(x)[:, :16]
        apart = (z - vae.encode(x[:, :, None]).latent_dist.mode()[:, :, 0]).abs().max(), (ours.decode(z).clamp(-1, 1) - vae.decode(z[:, :, None]).sample[:, :, 0]).abs().max()
    print('VAE: largest difference between nets.py and diffusers, encoder and decoder:', *(f'{a.item():.1e}' for a in apart))
    vae.to(torch.bfloat16).save_pretrained(out + '/vae')


def text_config(tokenizer):
    data = json.load(open(tokenizer + '/tokenizer.json'))
    ids = {a['content']: a['id'] for a in data['added_tokens']}
    pad, theta, sections = ids['<|endoftext|>'], TE_CFG['rope_theta'], [4, 6, 6]
    sizes = {k: v for k, v in TE_CFG.items() if k != 'rope_theta'}
    text = dict(vocab_size=len(data['model']['vocab']) + len(ids), **sizes, rms_norm_eps=1e-6, rope_theta=theta, max_position_embeddings=2048, tie_word_embeddings=False,
                rope_scaling=dict(type='default', rope_type='default', mrope_section=sections), rope_parameters=dict(rope_type='default', rope_theta=theta, mrope_section=sections),
                pad_token_id=pad, bos_token_id=pad, eos_token_id=pad)
    vision = dict(depth=1, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=TE_CFG['hidden_size'], fullatt_block_indexes=[0])
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=ids['<|image_pad|>'], video_token_id=ids['<|video_pad|>'],
                            vision_start_token_id=ids['<|vision_start|>'], vision_end_token_id=ids['<|vision_end|>'])


def write(run, tokenizer, out):
    os.makedirs(out, exist_ok=True)
    write_vae(run, out)
    state = torch.load(run + '/ckpt.pt', map_location='cpu')
    weights = {n: state['average'].get(n, torch.zeros(s)).float() for n, s in state['shapes'].items()}
    dit = QwenImageTransformer2DModel(**DIT_CFG)
    dit.load_state_dict({k.removeprefix('dit.'): v for k, v in weights.items() if k.startswith('dit.')})
    dit.to(torch.bfloat16).save_pretrained(out + '/transformer')
    torch.manual_seed(0)  # the vision tower is never run; its random weights stay the same
    encoder = Qwen2_5_VLForConditionalGeneration(text_config(tokenizer))
    encoder.model.language_model.load_state_dict({k.removeprefix('te.'): v for k, v in weights.items() if k.startswith('te.')})
    with torch.no_grad():
        encoder.lm_head.weight.zero_()
    encoder.to(torch.bfloat16).save_pretrained(out + '/text_encoder')
    FlowMatchEulerDiscreteScheduler(base_image_seq_len=256, base_shift=.5, max_image_seq_len=8192, max_shift=.9, shift_terminal=.02, use_dynamic_shifting=True,
                                    time_shift_type='exponential').save_pretrained(out + '/scheduler')
    shutil.copytree(tokenizer, out + '/tokenizer', dirs_exist_ok=True)
    index = dict(_class_name='QwenImagePipeline', _diffusers_version='0.42.1', scheduler=['diffusers', 'FlowMatchEulerDiscreteScheduler'],
                 text_encoder=['transformers', 'Qwen2_5_VLForConditionalGeneration'], tokenizer=['transformers', 'Qwen2Tokenizer'],
                 transformer=['diffusers', 'QwenImageTransformer2DModel'], vae=['diffusers', 'AutoencoderKLQwenImage'])
    json.dump(index, open(out + '/model_index.json', 'w'), indent=2)
    print(json.dumps(DEFAULTS), file=open(out + '/inkstone.json', 'w'))


def pipeline(model):
    pipe = QwenImagePipeline.from_pretrained(model, torch_dtype=torch.bfloat16).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return lambda caption, width, height, seed, steps, cfg: pipe(caption, negative_prompt=EMPTY_PROMPT, true_cfg_scale=float(cfg), num_inference_steps=int(steps), width=width,
                                                                 height=height, generator=torch.Generator().manual_seed(seed)).images[0]


def draw(model, captions, folder, steps=20, cfg=4.):
    os.makedirs(folder, exist_ok=True)
    picture = pipeline(model)
    for t in json.load(open(captions)):
        path = f"{folder}/{t['index']:03d}.png"
        if not os.path.exists(path):
            picture(t['caption'], t['width'], t['height'], t['index'], steps, cfg).save(path)


def sheet(model, out, steps=20, cfg=4.):
    picture = pipeline(model)
    arrange(lambda caption, width, height, seed: picture(caption, width, height, seed, steps, cfg), out)


if __name__ == '__main__':
    dict(write=write, draw=draw, sheet=sheet)[sys.argv[1]](*sys.argv[2:])
