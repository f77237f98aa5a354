"""Runs an example as Python runs it, and writes down which samples it trains on, rank by rank and batch by batch.

The example and the folder of the records go into the environment: a launcher that starts this script once more, with
the arguments that the example sees, starts the same.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from skillit_stream.loader import batches

EXAMPLE, RECORDS = 'RECORDED_EXAMPLE', 'RECORDED_INTO'


def record_into(folder: Path) -> None:
    """From now on what is widened to be trained on is written down."""
    widen = batches.causal_lm_inputs

    @wraps(widen)
    def recorded(batch: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        # What is evaluated keeps no gradients.
        if torch.is_grad_enabled():
            rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
            with (folder / f'{rank}.jsonl').open('a') as file:
                file.write(json.dumps(batch['sample_id'].tolist()) + '\n')
        return widen(batch, **options)

    batches.causal_lm_inputs = recorded


def play(arguments: Sequence[str]) -> None:
    """Run the example of the environment with these arguments."""
    record_into(Path(os.environ[RECORDS]))
    sys.argv = [__file__, *arguments]
    # Not by runpy: it names the example as what a launcher has to start once more.
    example = os.environ[EXAMPLE]
    exec(compile(Path(example).read_text(), example, 'exec'), {'__name__': '__main__', '__file__': example})


def main(arguments: Sequence[str]) -> int:
    """Run the example named first, with the folder of the records next and its own arguments; 0 at its end."""
    os.environ[EXAMPLE], os.environ[RECORDS], *rest = arguments
    play(rest)
    return 0


if __name__ == '__main__':
    if EXAMPLE in os.environ:
        play(sys.argv[1:])
    else:
        main(sys.argv[1:])
