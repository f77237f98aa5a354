"""Converters: a corpus in, one MDS stream per skill out.

The parts, in the order the data flows::

    readers.py    files -> lines             .jsonl, .json, plain or .gz .zst .xz .bz2, memory flat
    rows.py       lines -> documents         parse, find the text, ask the corpus for the skill
    tokens.py     documents -> token ids     any Hugging Face tokenizer, in batches
    splits.py     documents -> train, eval   by a hash of the text
    packing.py    token ids -> samples       EOS after each document, cut into seq_len
    writer.py     samples -> MDS shards      staged beside the target, renamed into place when complete
    overlap.py    packed samples alike in train and eval leave eval
    pipeline.py   all of it, for a corpus of documents

A corpus is one small module (`redpajama.py`, `jsonl.py`, `addition.py`, `lego.py`) that offers ``HELP``,
``add_arguments(parser)`` and ``run(args) -> Manifest`` and is listed in `command.py`. For a corpus of JSON
rows it is a function from a row to the name of a skill.
"""
