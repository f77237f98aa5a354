"""What runs run on, in a line."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ('skillit-stream', 'torch', 'mosaicml', 'mosaicml-streaming', 'transformers', 'numpy')


@cache
def ran_on() -> str:
    """Hardware and versions."""
    import torch

    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    python = '.'.join(map(str, sys.version_info[:3]))
    versions = ', '.join(f'{name} {_version(name)}' for name in PACKAGES)
    return (
        f'{os.cpu_count()} {platform.machine()} cores, {memory:.0f} GiB of memory, '
        f'{", ".join(gpus) or "no GPU"}, Python {python}; {versions}'
    )


def _version(name: str) -> str:
    """Of a package; this one may be used from its folder without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return 'not installed'
