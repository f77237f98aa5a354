"""Audits of a run of RedPajama-1T's size, from index files alone: is round 1000 answered as soon as round 1?

    python benchmarks/audit.py [--out benchmarks/results] [--rounds 1001]

Plans rounds of 512,000 of 590.8 M samples under proportions that change every round, writes the log that training
would have written, and times `skillit audit` as a command for its first, middle and last round, for the last step,
and for the draws of one sample in all of them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from plan import BATCH, ROUND, TOKENS, build_ours, write_indexes
from reporting import publish

REPEATS = 3


def write_run(root: Path, run: Path, rounds: int) -> None:
    """The run folder of so many rounds; nothing is read but indexes."""
    from skillit_stream.formats.run_log import RoundRecord, RunLog

    dataset = build_ours(root)
    random, log = np.random.default_rng(0), RunLog(run / 'mixture.jsonl')
    log.start(-1)
    for number in range(rounds):
        proportions = random.dirichlet(np.ones(len(TOKENS)))
        dataset.set_proportions(dict(zip(TOKENS, proportions.tolist(), strict=True)))
        # A round that is begun and never drawn from: its order is not looked up, its cursors move.
        iter(dataset)
        log.append(
            RoundRecord(
                round=number,
                step=(number + 1) * ROUND // BATCH,
                proportions=dataset.proportions,
                samples=dict(dataset.samples),
                state=dataset.round_state(),
            )
        )


def seconds(*arguments: str) -> float:
    """Median of some runs of `skillit audit`, start of Python included; one that walks all rounds runs once."""
    times = []
    for _ in range(1 if '--sample' in arguments else REPEATS):
        began = time.perf_counter()
        command = [sys.executable, '-m', 'skillit_stream.cli', 'audit', *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Write the run, ask of it, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--out', help='folder for audit.json')
    parser.add_argument('--rounds', type=int, default=1001)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, run = Path(folder, 'streams'), Path(folder, 'run')
        write_indexes(root)
        write_run(root, run, args.rounds)
        # Where an audit looks for them: ROOT/<skill>/train.
        for source in TOKENS:
            (root / source / 'train').mkdir()
            (root / source / 'index.json').rename(root / source / 'train' / 'index.json')
        (run / 'config.yaml').write_text(f'streams: {root}\n')
        last = args.rounds - 1
        questions = [('--round', '1'), ('--round', str(last // 2)), ('--round', str(last))]
        questions += [('--step', str(args.rounds * ROUND // BATCH - 1)), ('--sample', '12345678')]
        rows = [
            {'question': ' '.join(question), 'seconds': round(seconds(str(run), *question), 2)}
            for question in questions
        ]
        size = (run / 'mixture.jsonl').stat().st_size / args.rounds
    publish(
        'audit',
        rows,
        configuration={'rounds': args.rounds, 'round_size': ROUND, 'bytes a line': round(size)},
        out=args.out,
    )


if __name__ == '__main__':
    main()
