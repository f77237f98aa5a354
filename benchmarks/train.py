"""Training on one GPU through the mixed loader and Composer: fused kernels against eager ones.

    python benchmarks/train.py --out benchmarks/results [--model llama-1b] [--batch 64] [--microbatch 2]
    python benchmarks/train.py --smoke

A Llama of about 1 B parameters, sequences of 2,048 tokens, bfloat16 (amp_bf16), AdamW, three skills whose mixture
changes every round. Fused and eager run in turn, `--repeats` times, each in a process of its own, with the same
weights and samples; then fused alone with `--large-microbatch`, for the most tokens a second. The first
round warms up and does not count. The table has a row a measure and kernels, with the median of all values,
the lowest and the highest:

- throughput: thousand tokens a second, over all steps of a run, round changes included;
- MFU (%): operations of the model by PaLM's formula (see `flops.py`) over those the GPU can do in bfloat16 by its
  maker, dense, as Composer's SpeedMonitor knows them;
- peak memory (GB): the most that PyTorch had allocated while it trained, weights and optimizer included;
- waiting for data (% of the time);
- step (ms): within a round; step after a change (ms): from the end of the last step of a round to the end of
  the first one of the next, the change of the mixture between them; change: the medians of a run, one over the
  other, 1 where a change cannot be seen;
- difference of loss (%): of a step's training loss from that of eager, the same step and repeat.

`--smoke` runs all of it with a tiny model on the CPU, where there are no fused kernels, in seconds and in one process,
and writes train-smoke.json: a check of the script, not a measurement.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import train_job
from reporting import publish
from train_job import Setting

SHAPES = {
    # TinyLlama's, 1.1 B parameters.
    'llama-1b': dict(vocab_size=32_000, intermediate_size=5_632, num_hidden_layers=22, num_key_value_heads=4),
    # Llama 3.2's, 1.2 B parameters, a fifth of them in the head.
    'llama-1b-128k': dict(
        vocab_size=128_256,
        intermediate_size=8_192,
        num_hidden_layers=16,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
}
LLAMA = {
    'model_type': 'llama',
    'hidden_size': 2_048,
    'num_attention_heads': 32,
    'max_position_embeddings': 2_048,
}
TINY = {
    **LLAMA,
    **dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2),
    **dict(num_key_value_heads=2, max_position_embeddings=32, vocab_size=100),
}
SMOKE = Setting(TINY, seq_len=32, batch=4, rounds=3, steps=4, workers=0, precision='fp32', device='cpu')
# Kernels and microbatch.
Job = tuple[str, int]
Figures = dict[str, list[float]]


def in_own_process(folder: Path, setting: Setting, job: Job) -> dict[str, Any]:
    """Train in a process of its own, which leaves nothing on the GPU."""
    command = [sys.executable, __file__, '--one', str(folder), json.dumps([setting.describe(), *job])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'{job[0]} with microbatches of {job[1]} failed:\n{done.stderr}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def figures_of(run: Mapping[str, Any], setting: Setting) -> Figures:
    """What is told of a run: a value, or one a step."""
    seconds, steps = sum(run['seconds']), len(run['seconds'])
    within = [one * 1e3 for one, first in zip(run['seconds'], run['first'], strict=True) if not first]
    after = [one * 1e3 for one, first in zip(run['seconds'], run['first'], strict=True) if first]
    figures = {'throughput (ktok/s)': [steps * setting.batch * setting.seq_len / seconds / 1e3]}
    if run['peak_flops']:
        figures['MFU (%)'] = [100 * steps * run['flops'] / seconds / run['peak_flops']]
    if run['peak_bytes']:
        figures['peak memory (GB)'] = [run['peak_bytes'] / 1e9]
    figures['waiting for data (%)'] = [100 * sum(run['waiting']) / seconds]
    change = statistics.median(after) / statistics.median(within)
    return figures | {'step (ms)': within, 'step after a change (ms)': after, 'change': [change]}


def differences(fused: Sequence[float], eager: Sequence[float]) -> Figures:
    """How far the losses of the same steps are apart."""
    pairs = zip(fused, eager, strict=True)
    return {'difference of loss (%)': [100 * abs(one - other) / other for one, other in pairs]}


def measure(folder: Path, setting: Setting, jobs: Sequence[Job], repeats: int) -> tuple[dict, dict]:
    """All jobs in turn, `repeats` times.

    Args:
        folder: Holds the streams.
        setting: What is trained.
        jobs: Fused, eager, and others; the first two are compared.
        repeats: How often.

    Returns:
        (Job, measure) -> values of all repeats, and job -> what it ran on, in words.
    """
    train_one = train_job.measure_job if setting.device == 'cpu' else in_own_process
    found: dict[tuple[Job, str], list[float]] = {}
    said = {}
    for _ in range(repeats):
        losses = {}
        for job in jobs:
            run = train_one(folder, setting, job)
            said[job], losses[job] = run['kernels'], run['losses']
            for name, values in figures_of(run, setting).items():
                found.setdefault((job, name), []).extend(values)
        for name, values in differences(losses[jobs[0]], losses[jobs[1]]).items():
            found.setdefault((jobs[0], name), []).extend(values)
    return found, said


def rows_of(found: Mapping[tuple[Job, str], Sequence[float]], eager: Job) -> list[dict[str, Any]]:
    """A row a measure and job."""
    names = list(dict.fromkeys(name for _, name in found))
    rows = []
    for name in names:
        for (job, measure_name), values in found.items():
            if measure_name != name:
                continue
            median, other = statistics.median(values), found.get((eager, name))
            base = statistics.median(other) if other else 0.0
            rows.append(
                {
                    'measure': name,
                    'kernels': job[0],
                    'microbatch': job[1],
                    'median': median,
                    'lowest': min(values),
                    'highest': max(values),
                    'values': len(values),
                    'this / eager': median / base if base else None,
                }
            )
    return rows


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--smoke', action='store_true', help='a tiny model on the CPU: a check of the script')
    parser.add_argument('--model', choices=SHAPES, default='llama-1b', help='default: llama-1b')
    parser.add_argument('--batch', type=int, default=64, help='samples a step (default: 64)')
    parser.add_argument('--microbatch', type=int, default=2, help='samples a forward pass (default: 2)')
    parser.add_argument('--large-microbatch', type=int, default=8, help='the same, fused alone (default: 8)')
    parser.add_argument('--rounds', type=int, default=4, help='rounds, the first not measured (default: 4)')
    parser.add_argument('--steps', type=int, default=10, help='steps in a round (default: 10)')
    parser.add_argument('--repeats', type=int, default=2, help='runs of each job (default: 2)')
    parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def setting_of(args: argparse.Namespace) -> tuple[Setting, list[Job]]:
    """What is trained, and the jobs, fused and eager first."""
    if args.smoke:
        return SMOKE, [('auto', 2), ('eager', 2), ('auto', 4)]
    import torch

    if not torch.cuda.is_available():
        raise SystemExit('There is no GPU here: --smoke runs a tiny model on the CPU, to check the script.')
    model = {**LLAMA, **SHAPES[args.model]}
    size = dict(seq_len=2_048, batch=args.batch, rounds=args.rounds, steps=args.steps, workers=2)
    setting = Setting(model, **size, precision='amp_bf16', device='gpu')
    micro, large = args.microbatch, args.large_microbatch
    return setting, [('fused', micro), ('eager', micro), ('fused', large)]


def main() -> None:
    """Write the streams, train, publish."""
    args = options_of()
    if args.one:
        described, *job = json.loads(args.one[1])
        run = train_job.measure_job(Path(args.one[0]), Setting(**described), (job[0], job[1]))
        print(json.dumps(run), flush=True)
        return
    setting, jobs = setting_of(args)
    with tempfile.TemporaryDirectory() as folder:
        train_job.write_streams(Path(folder), setting)
        found, said = measure(Path(folder), setting, jobs, args.repeats)
    took = {f'{kernels}, microbatch {size}': line for (kernels, size), line in said.items()}
    configuration = {**setting.describe(), 'repeats': args.repeats, 'kernels': took}
    name = 'train-smoke' if args.smoke else 'train'
    publish(name, rows_of(found, jobs[1]), configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
