"""All that the bytes of a part depend on besides its input files: a part done under other settings is not used."""

import argparse
import ast
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import skillit_stream
from skillit_stream.convert.corpus import Corpus
from skillit_stream.convert.history import NO_INFLUENCE
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.runners import code_of
from skillit_stream.convert.tokens import DocumentTokenizer

# Packages whose releases may write other bytes.
WRITERS = ('tokenizers', 'gigatoken', 'mosaicml-streaming')
# Of a command line besides: what they say is among the settings in another form.
SAID_OTHERWISE = ('out', 'tokenizer', 'part_size')


def settings_of(
    corpus: Corpus,
    options: ConvertOptions,
    tokenizer: DocumentTokenizer,
    tokenizer_hash: str,
    encoder: str,
) -> dict[str, Any]:
    """What the samples of any corpus depend on.

    Args:
        corpus: Says what its documents depend on.
        options: Of the command.
        tokenizer: What its files resolve to: two folders may differ in the end of a text alone.
        tokenizer_hash: Of its ``tokenizer.json``.
        encoder: Who is to encode.
    """
    facts = tokenizer.facts
    return {
        'corpus': [corpus.name, dict(corpus.options()), dict(corpus.decisions())],
        'options': {**asdict(options), 'tokenizer': tokenizer_hash, 'encoder': encoder},
        'ids': [facts.vocab_size, facts.eos_id, facts.pad_id],
        'versions': [skillit_stream.__version__, *map(_version, WRITERS)],
    }


def custom_settings(path: str, args: argparse.Namespace, files: Sequence[InputFile]) -> dict[str, Any]:
    """What the documents of a corpus of one's own depend on: its code, its arguments and the files that they name.

    Args:
        path: Of its .py file.
        args: Its command line.
        files: Its input files, each of which counts for its part alone.
    """
    values = {
        name: value
        for name, value in sorted(vars(args).items())
        if name not in (*NO_INFLUENCE, *SAID_OTHERWISE) and not callable(value)
    }
    inputs = {os.path.realpath(file.path) for file in files}
    named = {text for value in values.values() for text in _texts(value)} - inputs
    stamps = {name: _stamp(name) for name in sorted(named) if os.path.isfile(name)}
    return {'custom': [code_hash(path), values, stamps]}


def code_hash(path: str) -> str:
    """Hash of the code of a corpus of one's own as it was loaded, and of the modules of one's own that it imports."""
    digest = hashlib.blake2b(code_of(path).encode(), digest_size=16)
    for file in sorted(set(_own_modules(path, {os.path.realpath(path)}))):
        with open(file, 'rb') as opened:
            digest.update(opened.read())
    return digest.hexdigest()


def _own_modules(path: str, seen: set[str]) -> Iterator[str]:
    """The files of modules that a file imports, and these in turn, unless they are installed or of Python itself."""
    with open(path, 'rb') as file:
        tree = ast.parse(file.read())
    for name in _imported_names(tree):
        found = os.path.realpath(_file_of(name))
        if found.endswith('.py') and found not in seen and not _is_installed(found):
            seen.add(found)
            yield found
            yield from _own_modules(found, seen)


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _file_of(name: str) -> str:
    """The file of a module, imported or not yet; empty if there is none."""
    if name in sys.modules:
        return getattr(sys.modules[name], '__file__', None) or ''
    spec = None if '.' in name else importlib.util.find_spec(name)
    return (spec.origin or '') if spec else ''


def _is_installed(file: str) -> bool:
    package = os.path.dirname(skillit_stream.__file__)
    folders = [*sysconfig.get_paths().values(), sys.prefix, package, os.path.join(package, 'convert')]
    return any(file.startswith(os.path.realpath(folder) + os.sep) for folder in folders)


def _texts(value: Any) -> Iterator[str]:
    """The texts in the value of an argument, as real paths."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str | os.PathLike):
            yield os.path.realpath(one)


def _stamp(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ''
