"""Reads the weights of a model folder (diffusers' layout) into the networks of nets.py."""
import glob
import json

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from nets import VAE, VAE_CFG


def _component(folder, name):
    [file] = glob.glob(f'{folder}/{name}/*.safetensors')
    return {k: v.float() for k, v in load_file(file).items()}


def load_vae(folder):
    """-> VAE, latents' mean (16), their standard deviation (16)"""
    vae, stored, plain = VAE(**VAE_CFG), _component(folder, 'vae'), {}
    for name, value in vae.state_dict().items():
        tensor = stored[name]
        plain[name] = (tensor[:, :, -1] if tensor.dim() == 5 else tensor).reshape(value.shape)  # one frame meets the last slice of time only
    vae.load_state_dict(plain)
    config = json.load(open(folder + '/vae/config.json'))
    return vae, torch.tensor(config['latents_mean']), torch.tensor(config['latents_std'])


def load_generator(folder):
    """Transformer ('dit.' names) and text encoder ('te.' names)"""
    weights = {'dit.' + k: v for k, v in _component(folder, 'transformer').items()}
    text = {k: v for k, v in _component(folder, 'text_encoder').items() if k.startswith('model.')}
    return {**weights, **{'te.' + k.removeprefix('model.').removeprefix('language_model.'): v for k, v in text.items()}}


def remap_embedding(table, old_tokenizer_json, new_tokenizer_json):
    """Rows of the old table for the tokens of a new tokenizer; a new token starts as the mean of its pieces"""
    old, new = Tokenizer.from_file(old_tokenizer_json), Tokenizer.from_file(new_tokenizer_json)
    pieces = {t: i for t, i in old.get_vocab().items()}
    rows = torch.empty(new.get_vocab_size(), table.shape[1])
    for token, i in new.get_vocab().items():
        parts = [pieces[token]] if token in pieces else [pieces[c] for c in token]
        rows[i] = table[parts].mean(0)
    return rows
