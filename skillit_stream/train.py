"""Train from a YAML: `composer -n N -m skillit_stream.train YAML key=value ...`, or `skillit train`."""

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from skillit_stream.base.errors import OneLineParser, run_guarded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit train`."""
    parser.add_argument('yaml', help='a training YAML, e.g. yamls/addition/skill_it.yaml')
    parser.add_argument(
        'overrides', nargs='*', metavar='key=value', help='overrides, with dots: optimizer.lr=3e-4'
    )


def run(args: argparse.Namespace) -> int:
    """Train; the configuration is checked before anything heavy is imported."""
    from skillit_stream.training.config import load_config

    config = load_config(args.yaml, args.overrides)
    # Nothing is tokenized here; unless told so, tokenizers warns of every worker that is forked.
    os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
    from skillit_stream.training.session import fit

    fit(config)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m skillit_stream.train``."""
    parser = OneLineParser(prog='skillit_stream.train', description=__doc__)
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    add_arguments(parser)
    args = parser.parse_args(argv)
    return run_guarded(lambda: run(args), args.debug)


def _end(code: int) -> NoReturn:
    """Exit with this code.

    A rank of several that failed leaves out what torch does while a process ends: threads of its process group abort
    there, with another code, as soon as the other ranks have gone.
    """
    distributed = sys.modules.get('torch.distributed')
    if code and distributed and distributed.is_initialized() and distributed.get_world_size() > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == '__main__':
    _end(main())
