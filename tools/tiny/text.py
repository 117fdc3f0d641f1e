"""Captions to token ids: the prompt template of Qwen-Image and the small tokenizer."""
import numpy as np
from tokenizers import Tokenizer

TEMPLATE = ('<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the objects and background:<|im_end|>\n'
            '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n')
TEMPLATE_TOKENS = 34  # in front of the prompt; the pipeline drops their states
PROMPT_TOKENS = 48  # longest prompt of training, the template's end included
TEXT_TOKENS = TEMPLATE_TOKENS + PROMPT_TOKENS
EMPTY_PROMPT = ' '  # what classifier-free guidance compares with


class Text:
    def __init__(self, tokenizer_json):
        self.tokenizer = Tokenizer.from_file(tokenizer_json)
        self.pad = self.tokenizer.token_to_id('<|endoftext|>')

    def __call__(self, captions):
        """-> ids (n, TEXT_TOKENS) int16 padded on the right, lengths before cutting"""
        encoded = self.tokenizer.encode_batch([TEMPLATE.format(c) for c in captions])
        ids, lengths = np.full((len(encoded), TEXT_TOKENS), self.pad, np.int16), np.zeros(len(encoded), np.int16)
        for i, e in enumerate(encoded):
            cut = e.ids[:TEXT_TOKENS]
            ids[i, :len(cut)], lengths[i] = cut, len(e.ids)
        return ids, lengths
