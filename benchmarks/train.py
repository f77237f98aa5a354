"""Training on one GPU through the mixed loader and Composer, kernel by kernel, and what is left to the limit.

    python benchmarks/train.py --out benchmarks/results [--minutes 15] [--model llama-1b] [--batch 32]
    python benchmarks/train.py --smoke

A Llama of about 1 B parameters, sequences of 2,048 tokens, bfloat16 (amp_bf16), AdamW, seven skills whose mixture
changes every round. The jobs differ in kernels, attention and microbatch and in nothing else; those that matter most
come first, each is written down as it ends, and none is begun that is not likely to end within `--minutes`. The first
round warms up and does not count. The table has a row a job:

- ktok/s: thousand tokens a second, over all steps, round changes included;
- MFU (%): operations of the model by PaLM's formula (see `flops.py`) over those the GPU can do in bfloat16 by its
  maker, dense, as Composer's SpeedMonitor knows them;
- GB: the most that PyTorch had allocated, weights and optimizer included;
- waiting (%): the time for which a step waited for data;
- step (ms): the median within a round; change: the median from the end of the last step of a round to the end of the
  first one of the next over it, 1 where a change of the mixture cannot be seen;
- start (s): the first step, compiling included;
- eval (ktok/s): an evaluation of the seven skills in one pass;
- loss apart (%): the farthest that a training loss of the first round is from that of transformers' own modules; later
  ones say nothing: with no warm-up of the learning rate a difference of rounding grows to percents in ten steps.

Below it stands where the time of a step goes, and the limit: the time that the step's matrix products and its attention
take by themselves, each measured on this GPU in the same run.

`--smoke` runs all of it with a tiny model on the CPU, where there are no fused kernels, in seconds, and writes
train-smoke.json: a check of the script, not a measurement.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import train_job
from reporting import show, write
from train_job import Setting, TrainingJob

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
SMOKE = Setting(
    TINY, seq_len=32, batch=4, rounds=3, steps=4, workers=0, precision='fp32', device='cpu', eval_samples=4
)
PLAIN = 'transformers, SDPA'
JOBS = (
    TrainingJob('compiled', 'compiled', 8, profile=True),
    TrainingJob(PLAIN, 'transformers', 8),
    TrainingJob('compiled', 'compiled', 16),
    TrainingJob("compiled, transformers' SDPA", 'compiled', 8, attention='sdpa'),
    TrainingJob('fused', 'fused', 8, profile=True),
    TrainingJob('compiled', 'compiled', 'auto'),
    TrainingJob('compiled, documents masked', 'compiled', 8, mask_documents=True),
    TrainingJob('eager attention', 'eager', 2),
    TrainingJob('compiled as a whole', 'transformers', 8, compile_config={}),
    TrainingJob('compiled, fastest attention', 'compiled', 8, backend='fastest'),
)
SMOKE_JOBS = (
    TrainingJob('compiled', 'compiled', 2, profile=True),
    TrainingJob(PLAIN, 'transformers', 2),
    TrainingJob('documents masked', 'transformers', 2, mask_documents=True),
    TrainingJob('fastest attention', 'transformers', 4, backend='fastest'),
    TrainingJob('compiled as a whole', 'transformers', 2, compile_config={'backend': 'aot_eager'}),
    TrainingJob('eager attention', 'eager', 2),
)


def row_of(job: TrainingJob, run: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """The table's row of a job."""
    seconds, steps = sum(run['seconds']), len(run['seconds'])
    within = [one * 1e3 for one, first in zip(run['seconds'], run['first'], strict=True) if not first]
    after = [one * 1e3 for one, first in zip(run['seconds'], run['first'], strict=True) if first]
    peak, memory = run['peak_flops'], run['peak_bytes']
    return {
        'job': job.name,
        'microbatch': run['microbatch'],
        'ktok/s': steps * setting.batch * setting.seq_len / seconds / 1e3,
        'MFU (%)': 100 * steps * run['flops'] / seconds / peak if peak else None,
        'GB': memory / 1e9 if memory else None,
        'waiting (%)': 100 * sum(run['waiting']) / seconds,
        'step (ms)': statistics.median(within),
        'lowest': min(within),
        'highest': max(within),
        'change': statistics.median(after) / statistics.median(within),
        'start (s)': run['start'],
        'eval (ktok/s)': run['evaluated'] / run['evaluation'] / 1e3,
        'loss apart (%)': None,
    }


def add_differences(rows: Sequence[dict[str, Any]], runs: Sequence[Mapping[str, Any]], steps: int) -> None:
    """Fill in how far the losses of the first `steps` are from those of transformers' own modules, if trained."""
    plain = next((run['losses'] for row, run in zip(rows, runs, strict=True) if row['job'] == PLAIN), None)
    for row, run in zip(rows, runs, strict=True):
        if plain:
            pairs = list(zip(run['losses'], plain, strict=True))[:steps]
            row['loss apart (%)'] = max(100 * abs(one - other) / other for one, other in pairs)


def limit_of(measured: Mapping[str, Any], run: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """The shortest a step can be with these matrix products and the fastest attention, one after the other."""
    attention = min(measured['attention'].values())
    tokens = setting.batch * setting.seq_len
    seconds = tokens * (measured['products'] + attention)
    peak = run['peak_flops']
    return {
        **measured,
        'step (ms)': seconds * 1e3,
        'MFU (%)': 100 * run['flops'] / seconds / peak if peak else None,
        'of it attention (%)': 100 * tokens * attention / seconds,
    }


def measure(
    folder: Path, setting: Setting, jobs: Sequence[TrainingJob], *, minutes: float, out: str | None, name: str
) -> dict[str, Any]:
    """All jobs in turn, as far as the time goes; the results are written after each.

    Returns:
        ``rows``, ``limit``, ``profiles`` (a job and microbatch -> where its time goes), ``losses`` of all steps,
        ``left_out`` (job -> why).
    """
    began, longest = time.monotonic(), 0.0
    rows: list[dict[str, Any]] = []
    runs: list[Mapping[str, Any]] = []
    said: list[dict[str, Any]] = []
    parts: dict[str, Any] = {'limit': None, 'profiles': {}, 'losses': {}, 'left_out': {}}
    limits = _limits(setting)
    for job in jobs:
        left, label = minutes * 60 - (time.monotonic() - began), f'{job.name}, microbatch {job.microbatch}'
        if left < longest:
            parts['left_out'][label] = 'no time left'
            continue
        job_began = time.monotonic()
        chosen = _with_backend(job, limits)
        run = _tried(folder, setting, chosen, parts['left_out'], label)
        longest = max(longest, time.monotonic() - job_began)
        if run is None:
            continue
        runs.append(run)
        said.append({**asdict(chosen), 'took': run['kernels']})
        rows.append(row_of(job, run, setting))
        add_differences(rows, runs, setting.steps)
        parts['limit'] = limit_of(limits, run, setting)
        parts['losses'][label] = run['losses']
        if run['profile']:
            parts['profiles'][label] = run['profile']
        print(f'{label}: {rows[-1]["ktok/s"]:.1f} ktok/s, MFU {rows[-1]["MFU (%)"]}', flush=True)
        if out:
            write(name, rows, configuration={**setting.describe(), 'jobs': said}, out=out, **parts)
    return {'rows': rows, **parts}


def _limits(setting: Setting) -> dict[str, Any]:
    import gpu_limits

    gpu = setting.device == 'gpu'
    try:
        return gpu_limits.limits(
            setting.model,
            seq_len=setting.seq_len,
            microbatch=8 if gpu else 2,
            device='cuda' if gpu else 'cpu',
        )
    finally:
        train_job.release()


def _with_backend(job: TrainingJob, limits: Mapping[str, Any]) -> TrainingJob:
    if job.backend != 'fastest':
        return job
    rates = limits['attention']
    fastest = min(rates, key=rates.get)
    return replace(job, backend=None if fastest == 'default' else fastest)


def _tried(
    folder: Path, setting: Setting, job: TrainingJob, left_out: dict[str, str], label: str
) -> dict[str, Any] | None:
    """A job's figures, with half of its microbatch where that does not fit the memory.

    Returns:
        None, and why in `left_out`, where it fails.
    """
    import torch

    size = job.microbatch
    try:
        return train_job.measure_job(folder, setting, job)
    except torch.cuda.OutOfMemoryError:
        left_out[label] = 'more than the memory'
        if size == 'auto' or int(size) < 2:
            return None
    except Exception as error:  # a job that fails must not take the others' time with it
        left_out[label] = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'[:300]
        print(f'{label}: {left_out[label]}', flush=True)
        return None
    finally:
        train_job.release()
    return _tried(folder, setting, replace(job, microbatch=int(size) // 2), left_out, label)


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--smoke', action='store_true', help='a tiny model on the CPU: a check of the script')
    parser.add_argument('--minutes', type=float, default=60, help='time for all jobs (default: 60)')
    parser.add_argument('--model', choices=SHAPES, default='llama-1b', help='default: llama-1b')
    parser.add_argument('--batch', type=int, default=32, help='samples a step (default: 32)')
    parser.add_argument('--rounds', type=int, default=4, help='rounds, the first not measured (default: 4)')
    parser.add_argument('--steps', type=int, default=10, help='steps in a round (default: 10)')
    parser.add_argument('--repeats', type=int, default=1, help='all jobs so often, in turn (default: 1)')
    parser.add_argument('--jobs', help='numbers of the jobs to run, e.g. 0,2 (default: all)')
    return parser.parse_args()


def setting_of(args: argparse.Namespace) -> tuple[Setting, Sequence[TrainingJob]]:
    """What is trained, and the jobs."""
    if args.smoke:
        return SMOKE, SMOKE_JOBS
    import torch

    if not torch.cuda.is_available():
        raise SystemExit('There is no GPU here: --smoke runs a tiny model on the CPU, to check the script.')
    model = {**LLAMA, **SHAPES[args.model]}
    size = dict(seq_len=2_048, batch=args.batch, rounds=args.rounds, steps=args.steps, workers=2)
    setting = Setting(model, **size, precision='amp_bf16', device='gpu', eval_samples=16)
    jobs = [JOBS[int(number)] for number in args.jobs.split(',')] if args.jobs else JOBS
    return setting, jobs


def main() -> None:
    """Write the streams, train, publish."""
    args = options_of()
    setting, jobs = setting_of(args)
    name = 'train-smoke' if args.smoke else 'train'
    with tempfile.TemporaryDirectory() as folder:
        train_job.write_streams(Path(folder), setting)
        found = measure(
            Path(folder), setting, list(jobs) * args.repeats, minutes=args.minutes, out=args.out, name=name
        )
    if not found['rows']:
        raise SystemExit(
            'No job ended: ' + '; '.join(f'{job}: {why}' for job, why in found['left_out'].items())
        )
    show(name, found['rows'])
    for label, profile in found['profiles'].items():
        shown = [{'where the time goes': label, 'ms': profile['step']}]
        shown += [
            {'where the time goes': f'  {one}', 'ms': took} for one, took in profile['by_purpose'].items()
        ]
        show('profile of a step', shown)
    print(f'limit: {found["limit"]}\nleft out: {found["left_out"]}')


if __name__ == '__main__':
    main()
