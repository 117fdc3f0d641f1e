"""Builds the small tokenizer: Qwen2.5's bytes, splitting and added tokens, and merges of its own.

    python tokenizer.py QWEN_STYLE_TOKENIZER.json OUT_DIR

QWEN_STYLE_TOKENIZER.json gives the structure (normaliser, splitting, added tokens, the 256 bytes). Every common word of the captions with the space
in front of it is one token, built from its left (" c", " ci", ... " circle"). No merge starts with a letter, but for the four words of the template
that follow no space; so a word in quotes is spelt letter by letter, in capitals and in small letters alike. 841 merges, 1,111 ids."""
import collections
import json
import os
import re
import sys

from tokenizers import Tokenizer

from scenes import Scenes
from text import TEMPLATE, TEMPLATE_TOKENS

MERGES = 841
SPACE = '\u0120'  # how byte-level BPE writes a space
# Words of the template that follow no space, begun at a pair of letters that is rare in short words: the other words keep their letters
CHAINS = [['D e', 'De s', 'Des c', 'Desc r', 'Descr i', 'Descri b', 'Describ e'], ['u s', 'us e', 'use r'], ['y s', 's ys', 'sys t', 'syst e', 'syste m'],
          ['s i', 's si', 'a ssi', 'assi s', 'assis t', 'assist a', 'assista n', 'assistan t']]


def spaced_words(count=60000):
    """How often each word with a space in front occurs in captions, without the words that are to be written"""
    scenes = Scenes(7, styles=(.3, .3))
    scenes.text = lambda *_, **__: 'A'
    found = collections.Counter()
    for i in range(count):
        found.update(re.findall(r' [a-z]+', scenes.next(i % 3)[0]))
    found.update({w: count for w in re.findall(r' [a-z]+', TEMPLATE)})
    return found


def build_merges(found):
    """The chains of the words by falling frequency; those of the template last, so that they never break a word with a space"""
    unspaced, merges, made = [c.split(' ') for chain in CHAINS for c in chain], [], set()
    room = MERGES - len(unspaced)
    for word, _ in found.most_common():
        word = SPACE + word[1:]
        chain = [(word[:k], word[k]) for k in range(1, len(word)) if word[:k + 1] not in made]
        chain = chain[:room - len(merges)]
        made.update(a + b for a, b in chain)
        merges += [list(c) for c in chain]
        if len(merges) == room:
            return merges + unspaced
    raise SystemExit(f'only {len(merges)} merges found')


def write(structure, merges, out):
    base = json.load(open(structure))
    os.makedirs(out, exist_ok=True)
    by_id = [t for t, _ in sorted(base['model']['vocab'].items(), key=lambda x: x[1])[:256]]
    assert all(len(t) == 1 for t in by_id)
    vocab = {t: i for i, t in enumerate(by_id + [a + b for a, b in merges])}
    result = dict(base, model=dict(base['model'], vocab=vocab, merges=merges))
    result['added_tokens'] = [dict(a, id=len(vocab) + i) for i, a in enumerate(base['added_tokens'])]
    json.dump(result, open(out + '/tokenizer.json', 'w'), ensure_ascii=False)
    json.dump(vocab, open(out + '/vocab.json', 'w'), ensure_ascii=False)
    open(out + '/merges.txt', 'w', encoding='utf8').write('#version: 0.2\n' + ''.join(f'{a} {b}\n' for a, b in merges))
    fields = ('content', 'lstrip', 'normalized', 'rstrip', 'single_word', 'special')
    json.dump(dict(tokenizer_class='Qwen2Tokenizer', model_max_length=131072, pad_token='<|endoftext|>', eos_token='<|im_end|>', unk_token=None, bos_token=None,
                   errors='replace', clean_up_tokenization_spaces=False, add_prefix_space=False, split_special_tokens=False, padding_side='right',
                   added_tokens_decoder={str(a['id']): {k: a[k] for k in fields} for a in result['added_tokens']},
                   additional_special_tokens=[a['content'] for a in result['added_tokens'] if a['content'] != '<|endoftext|>']),
              open(out + '/tokenizer_config.json', 'w'), indent=1)


def main(structure, out):
    found = spaced_words()
    merges = build_merges(found)
    write(structure, merges, out)
    t = Tokenizer.from_file(out + '/tokenizer.json')
    before = len(t.encode(TEMPLATE.split('{}')[0]).ids)
    assert before == TEMPLATE_TOKENS, before
    print('ids', t.get_vocab_size(), 'merges', len(merges))
    whole = [w for w, _ in found.most_common() if len(t.encode(w).ids) == 1]
    print(len(whole), 'whole words, the rarest', whole[-12:])
    for c in ['a red heart above the word "LOVE" in black on a yellow background', 'write hello in "Blue"', 'red star', ' ']:
        print(t.encode(TEMPLATE.format(c)).tokens[TEMPLATE_TOKENS:])


if __name__ == '__main__':
    main(*sys.argv[1:])
