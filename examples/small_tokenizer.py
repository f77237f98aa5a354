"""A small byte-level BPE tokenizer from text files, for small models whose softmax should not outweigh the rest.

python examples/small_tokenizer.py tokenizers/small 4096 corpora/*.jsonl.zst

Files ending in .json, .jsonl or .txt, also as .gz or .zst, are read as plain text, 2 MB of each at most.
"""

import sys

import fsspec
from tokenizers import Tokenizer
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

CHARACTERS = 2_000_000
END = '<|endoftext|>'


def read(path: str) -> str:
    """The beginning of a file."""
    with fsspec.open(path, 'rt', encoding='utf-8', errors='replace', compression='infer') as file:
        return file.read(CHARACTERS)  # type: ignore[union-attr]


def main(folder: str, vocabulary: str, *paths: str) -> None:
    """Train on the files and save."""
    tokenizer = ByteLevelBPETokenizer()
    texts = map(read, paths)
    tokenizer.train_from_iterator(texts, int(vocabulary), special_tokens=[END], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), eos_token=END
    ).save_pretrained(folder)
    print(f'{folder}: {tokenizer.get_vocab_size()} tokens')


if __name__ == '__main__':
    main(*sys.argv[1:])
