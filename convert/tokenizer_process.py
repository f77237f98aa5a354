"""The tokenizer of a command -> a folder, by a process that does not import torch.

transformers takes a second to import by itself, and several with torch, which it imports where it can and of which a
tokenizer needs nothing. That can be forbidden only to a whole process (``USE_TORCH=0``), so another one is asked; one
that has imported transformers does it itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from skillit_stream.base.errors import InputError
from skillit_stream.convert.tokens import (
    TokenizerFacts,
    called,
    find_tokenizer,
    save_tokenizer,
    tokenizer_facts,
)

# Of transformers: do without these, and do not advise anybody to install them.
WITHOUT_TORCH = {'USE_TORCH': '0', 'USE_TF': '0', 'USE_FLAX': '0', 'TRANSFORMERS_NO_ADVISORY_WARNINGS': '1'}


def save_named_tokenizer(name: str, folder: str) -> tuple[TokenizerFacts, str]:
    """Save the tokenizer in a folder or on the hub to another folder.

    Returns:
        (what one has to know of it, hash of its ``tokenizer.json``).

    Raises:
        InputError: As :func:`~skillit_stream.convert.tokens.find_tokenizer`.
    """
    if 'transformers' in sys.modules:
        return _save(name, folder)
    command = [sys.executable, '-m', __name__, name, folder]
    # What it needs is found as this process finds it.
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        command,
        env={**os.environ, **WITHOUT_TORCH, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f'Internal error: the process that loads --tokenizer {name} failed:\n{done.stderr}'
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    if 'error' in answer:
        raise InputError(answer['error'])
    return TokenizerFacts(**answer['facts']), answer['hash']


def _save(name: str, folder: str) -> tuple[TokenizerFacts, str]:
    tokenizer = find_tokenizer(name)
    # Which gives it an EOS, if it knows none: before it is saved.
    return tokenizer_facts(tokenizer, called(name)), save_tokenizer(tokenizer, folder)


def main(arguments: Sequence[str]) -> None:
    """Save a tokenizer and print what came of it, as JSON."""
    name, folder = arguments
    try:
        facts, digest = _save(name, folder)
        answer = {'facts': asdict(facts), 'hash': digest}
    except InputError as error:
        answer = {'error': str(error)}
    print(json.dumps(answer))


if __name__ == '__main__':
    main(sys.argv[1:])
