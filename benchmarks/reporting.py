"""What every benchmark prints and writes: a table, and JSON with command, configuration, versions, hardware."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = (
    *('mosaicml', 'mosaicml-streaming', 'torch', 'transformers', 'numpy'),
    *('litdata', 'torchdata', 'datasets', 'tokenizers', 'gigatoken', 'triton', 'liger-kernel', 'flash-attn'),
)


def hardware() -> dict[str, Any]:
    """The machine: processor, cores, memory, and its GPUs if it has any."""
    model = platform.processor()
    for line in _lines('/proc/cpuinfo'):
        if line.startswith('model name'):
            model = line.split(':', 1)[1].strip()
            break
    memory = next((line.split()[1] for line in _lines('/proc/meminfo') if line.startswith('MemTotal')), '0')
    gpus = _gpus()
    return {
        'processor': model,
        'cores': os.cpu_count(),
        'memory_gib': round(int(memory) / 2**20, 1),
        'system': f'{platform.system()} {platform.release()}',
        **({'gpus': gpus} if gpus else {}),
    }


def versions() -> dict[str, str]:
    """Python and the packages measured; those that are absent are left out."""
    found = {'python': platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def publish(
    name: str, rows: Sequence[Mapping[str, Any]], *, configuration: Mapping[str, Any], out: str | None
) -> None:
    """Print the rows as a table and, if `out` is a folder, write them to ``out/name.json``."""
    show(name, rows)
    if out is not None:
        print(f'Written: {write(name, rows, configuration=configuration, out=out)}')


def show(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table(title=name)
    columns = list(rows[0])
    for column in columns:
        table.add_column(column, justify='left' if column == columns[0] else 'right')
    for row, following in zip(rows, [*rows[1:], {}], strict=True):
        # A line below the last row of a measure.
        ends = row[columns[0]] != following.get(columns[0])
        table.add_row(*[_shown(row[column]) for column in columns], end_section=ends)
    Console(width=140).print(table)


def write(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    configuration: Mapping[str, Any],
    out: str,
    **parts: Any,
) -> Path:
    """Write the rows, and `parts` beside them, to ``out/name.json``; returns its path."""
    Path(out).mkdir(parents=True, exist_ok=True)
    record = {
        'benchmark': name,
        # Where things lie on the machine says nothing to others.
        'command': ' '.join(
            ['python', *(Path(one).name if Path(one).is_absolute() else one for one in sys.argv)]
        ),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
        'hardware': hardware(),
        'versions': versions(),
        'configuration': dict(configuration),
        'rows': [dict(row) for row in rows],
        **parts,
    }
    path = Path(out, f'{name}.json')
    path.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    return path


def _shown(value: Any) -> str:
    if value is None:
        return '-'
    if isinstance(value, float):
        return f'{value:,.3g}' if abs(value) < 1000 else f'{value:,.0f}'
    return f'{value:,}' if isinstance(value, int) else str(value)


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU."""
    if not shutil.which('nvidia-smi'):
        return []
    command = ['nvidia-smi', '--query-gpu=name,memory.total,driver_version', '--format=csv,noheader']
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding='utf-8').splitlines()
    except OSError:
        return []
