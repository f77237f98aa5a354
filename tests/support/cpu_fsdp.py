"""Trains as `skillit_stream.train` does, with FSDP on CPUs, which torch can do and Composer does not ask it for."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from composer.utils import FSDPConfig, ParallelismConfig

from skillit_stream import train
from skillit_stream.training import builders


def sharding(options: Mapping[str, Any] | None, *_: Any) -> ParallelismConfig | None:
    """`build_fsdp`, but for its question whether there is a GPU."""
    return None if options is None else ParallelismConfig(fsdp=FSDPConfig(**options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; the exit code."""
    torch.cuda.current_device = lambda: torch.device('cpu')  # pyright: ignore[reportAttributeAccessIssue]
    builders.build_fsdp = sharding
    return train.main(arguments)


if __name__ == '__main__':
    sys.exit(main())
