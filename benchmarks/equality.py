"""How far the kernels of a choice are from eager ones: losses, gradients, sums by skill, logits.

    python benchmarks/equality.py --out benchmarks/results

A one-layer model of each family, the same weights and batch on eager kernels and on those of `kernels: fused` and
`compiled` (with liger-kernel) and of `auto` without it. The largest relative difference of each figure (of gradients:
of a parameter's, by norm) in float32 and in bfloat16, beside what rounding makes by itself: eager kernels in bfloat16
against eager ones in float32. On a CPU, where there are no fused kernels, with the loss in chunks alone.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from reporting import show, write

from skillit_stream.training.kernels import FAMILIES, Machine
from tests.support.kernel_equality import differences, step, twins

FIGURES = ('loss', 'gradients', 'sums', 'logits')


def rows_of(kind: str, device: str) -> list[dict[str, Any]]:
    """A row a choice and precision, for one family."""
    here = Machine(gpu=True, half=True)
    with_liger = replace(here, packages=frozenset({'liger_kernel'}))
    choices = {'without liger-kernel': (replace(here, cannot_compile='asked so'), 'auto')}
    if device == 'cuda':
        choices |= {'fused': (with_liger, 'fused'), 'compiled': (with_liger, 'compiled')}
    rows = []
    for precision in ('float32', 'bfloat16'):
        for name, (machine, asked) in choices.items():
            found = differences(kind, machine, device=device, precision=precision, asked=asked)
            largest = {
                figure: max(value for key, value in found.items() if key.startswith(figure))
                for figure in FIGURES
            }
            rows.append({'family': kind, 'precision': precision, 'kernels': name, **largest})
            torch._dynamo.reset()
    return [*rows, rounding_row(kind, device)]


def rounding_row(kind: str, device: str) -> dict[str, Any]:
    """Eager kernels in bfloat16 against eager ones in float32."""
    models = [twins(kind, Machine())[0] for _ in range(2)]
    one, other = (
        step(model, counting=False, device=device, precision=precision)
        for model, precision in zip(models, ('float32', 'bfloat16'), strict=True)
    )
    pairs = zip(one['gradients'], other['gradients'], strict=True)
    return {
        'family': kind,
        'precision': 'bfloat16',
        'kernels': 'eager, against float32',
        'loss': abs(one['loss'] - other['loss']) / one['loss'],
        'gradients': max(float((a - b).norm() / a.norm()) for a, b in pairs),
        'sums': None,
        'logits': None,
    }


def as_markdown(record: Mapping[str, Any]) -> str:
    """The rows of equality.json as a table, and what they were measured on."""
    hardware, versions = record['hardware'], record['versions']
    machine = ', '.join(hardware.get('gpus') or [f'{hardware["cores"]} cores, no GPU'])
    packages = ', '.join(f'{name} {versions[name]}' for name in ('torch', 'transformers') if name in versions)
    heads = ('family', 'precision', 'kernels', *FIGURES)
    lines = [
        '# Kernels against eager ones',
        '',
        f'`{record["command"]}`, {record["date"]}: {machine}; {packages}. Largest relative differences; of',
        "gradients, of a parameter's by norm.",
        '',
        f'| {" | ".join(heads)} |',
        f'|{" --- |" * len(heads)}',
    ]
    for row in record['rows']:
        figures = ('-' if row[figure] is None else f'{row[figure]:.1e}' for figure in FIGURES)
        lines.append(f'| {row["family"]} | {row["precision"]} | {row["kernels"]} | {" | ".join(figures)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Compare and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for equality.json and equality.md')
    parser.add_argument('--families', nargs='+', choices=FAMILIES, default=list(FAMILIES))
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rows = [row for kind in args.families for row in rows_of(kind, device)]
    name = 'equality' if device == 'cuda' else 'equality-cpu'
    show(name, rows)
    if args.out is not None:
        path = write(name, rows, configuration={'device': device, 'families': args.families}, out=args.out)
        path.with_suffix('.md').write_text(as_markdown(json.loads(path.read_bytes())), encoding='utf-8')
        print(f'Written: {path}')


if __name__ == '__main__':
    main()
