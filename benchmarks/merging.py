"""Whether merged branches of a fork stand for trained ones: weighted averages of end weights, evaluated.

    python benchmarks/merging.py RUN --checkpoint ep2-ba60-rank0.pt --steps 20 \
      --targets cuda,cython,stubs --targets python,json --out results
    python benchmarks/merging.py --steps 16 --targets wanted --targets letters,capitals,digits
    python benchmarks/merging.py --smoke

The branches of `skillit fork` are trained (each skill raised, the present mixture in three orders), and their end
weights kept. Their weighted averages stand for branches on the averaged mixtures (MergeMix, arXiv 2601.17858; OP-Mix,
arXiv 2605.15220, which averages low-rank adapters and fits the log-linear law to them). Then branches on other
mixtures of what they span are trained, each in an order of its own, and predicted by

    branches             the law on the trained branches, as `skillit fork` does it
    one present          the same with one branch of the present mixture in place of three
    branches and merged  the law on the trained branches and `--merged` merged ones
    one present, merged  the same with one branch of the present mixture in place of three
    merged               the law on the merged ones alone
    merged at the place  no law: the loss of the merged model with the very mixture that is to be predicted

A row has, for the gain of each held-out mixture over the present one, mean of the targets: the rank correlation; the
error (standard deviation), apart from the offset, which all mixtures have in common and no choice depends on; the
error of predicting the same gain for all; and what is lost by taking the mixture that is predicted best. The noise of
the held-out branches, each in an order of its own, is in all of them. All are evaluated on the same half of the eval
samples. Last, by how much averaging alone lowers the loss of the present mixture.

Without RUN it is the tiny run of tests/support/fork_runs.py.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from reporting import publish

from skillit_stream.forks.branches import Branches
from skillit_stream.forks.choice import HALF_WAY, Array, raised_mixture
from skillit_stream.forks.records import Branch
from skillit_stream.forks.start import start_in
from skillit_stream.mixture_fit.laws import fit_exponential
from skillit_stream.mixture_fit.quality import spearman
from tests.support import fork_runs

Weights = dict[str, torch.Tensor]
FRESH = 1000
"""How far the orders of the held-out branches are from those of the repeats."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Mixtures float64 ``[n, k]``, and the losses after each, float64 ``[n, m]``, nats per token."""

    mixtures: Array
    values: Array


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """All that was trained and merged."""

    skills: tuple[str, ...]
    """Eval skills: the columns."""
    raised: Losses
    repeats: Losses
    merged: Losses
    held_out: Losses
    at_the_place: Losses
    """Merged on the mixtures that are held out."""
    at_present: Losses
    """Merged on the present mixture."""


class Forked:
    """Branches of one checkpoint, with their weights.

    Args:
        branches: Of the checkpoint.
        steps: Of each.
    """

    def __init__(self, branches: Branches, steps: int) -> None:
        self._branches, self._steps = branches, steps
        self.skills = tuple(branches.present)
        self.present = np.array(list(branches.present.values()))

    def train(self, mixture: Array, order: int) -> tuple[dict[str, float], Weights]:
        """Losses and weights of a branch."""
        kept: Weights = {}

        def keep(model: torch.nn.Module) -> None:
            kept.update({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})

        losses = self._branches.losses(self._branch(mixture, self._steps, order), trained=keep)
        print('trained', np.round(mixture, 3), file=sys.stderr)
        return losses, kept

    def merge(self, models: Sequence[Weights], weights: Array) -> dict[str, float]:
        """Losses of a weighted average of models, ``weights`` float64 ``[n]``."""

        def put(model: torch.nn.Module) -> None:
            model.load_state_dict(averaged(models, weights))

        print('merged', np.round(weights, 3), file=sys.stderr)
        # A branch of one step, whose weights are then replaced.
        return self._branches.losses(self._branch(self.present, 1, 0), trained=put)

    def _branch(self, mixture: Array, steps: int, order: int) -> Branch:
        proportions = dict(zip(self.skills, mixture.tolist(), strict=True))
        seed = self._branches.shuffle_seed + order
        return Branch(name='', mixture=proportions, steps=steps, shuffle_seed=seed, half=0)


def averaged(models: Sequence[Weights], weights: Array) -> Weights:
    """The weighted average of models; what is not a floating number is the first one's."""
    return {
        name: sum(float(weight) * one[name] for weight, one in zip(weights, models, strict=True))  # type: ignore[misc]
        if value.is_floating_point()
        else value
        for name, value in models[0].items()
    }


def measure(forked: Forked, *, merged: int, held_out: int) -> Outcomes:
    """Train and merge all that is compared."""
    present, k = forked.present, len(forked.skills)
    rng = np.random.default_rng(0)
    # Of the raised branches: their mixtures span what a fork chooses among.
    q_merged, q_held_out = (rng.dirichlet(np.ones(k), size) for size in (merged, held_out))
    raised, models = [], []
    for skill in range(k):
        losses, weights = forked.train(raised_mixture(present, skill), 0)
        raised.append(losses)
        models.append(weights)
    skills = tuple(raised[0])

    def collected(q: Array, rows: Sequence[Mapping[str, float]]) -> Losses:
        mixtures = (1.0 - HALF_WAY) * present + HALF_WAY * q
        return Losses(mixtures=mixtures, values=np.array([[row[skill] for skill in skills] for row in rows]))

    def averages(q: Array) -> Losses:
        return collected(q, [forked.merge(models, weights) for weights in q])

    spanned = (1.0 - HALF_WAY) * present + HALF_WAY * q_held_out
    return Outcomes(
        skills=skills,
        raised=collected(np.eye(k), raised),
        repeats=collected(np.tile(present, (3, 1)), [forked.train(present, order)[0] for order in range(3)]),
        merged=averages(q_merged),
        held_out=collected(q_held_out, [forked.train(one, FRESH + at)[0] for at, one in enumerate(spanned)]),
        at_the_place=averages(q_held_out),
        at_present=averages(present[None]),
    )


def predictions(trained: Outcomes, targets: Sequence[int]) -> dict[str, Array]:
    """Way -> predicted gain of each held-out mixture over the present one, float64 ``[n]``, mean of the targets."""
    raised, repeats, merged, present = (
        trained.raised,
        trained.repeats,
        trained.merged,
        trained.repeats.mixtures[:1],
    )
    once = Losses(mixtures=present, values=repeats.values[:1])

    def by_law(*parts: Losses) -> Array:
        mixtures = np.vstack([part.mixtures for part in parts])
        values = np.vstack([part.values for part in parts])
        fits = [fit_exponential(mixtures, values[:, at]) for at in targets]
        gains = [one.predict(present) - one.predict(trained.held_out.mixtures) for one in fits]
        return np.mean(gains, axis=0)

    def of(losses: Losses) -> Array:
        return losses.values[:, targets].mean(axis=1)

    return {
        'branches': by_law(raised, repeats),
        'one present': by_law(raised, once),
        'branches and merged': by_law(raised, repeats, merged),
        'one present, merged': by_law(raised, once, merged),
        'merged': by_law(merged),
        'merged at the place': of(trained.at_present) - of(trained.at_the_place),
    }


def rows_of(trained: Outcomes, targets: Sequence[str]) -> list[dict[str, Any]]:
    """A row a way of prediction."""
    columns = [trained.skills.index(skill) for skill in targets]
    present = trained.repeats.values[:, columns].mean()
    gains = present - trained.held_out.values[:, columns].mean(axis=1)
    # What merging alone lowers the loss by, with the mixture as it is.
    lower = float(present - trained.at_present.values[:, columns].mean())
    rows = []
    for way, predicted in predictions(trained, columns).items():
        rows.append(
            {
                'targets': ', '.join(targets),
                'predicted by': way,
                'rank correlation': spearman(gains, predicted),
                'error': float((predicted - gains).std()),
                'error of one for all': float(gains.std()),
                'offset': float((predicted - gains).mean()),
                'lost by its choice': float(gains.max() - gains[predicted.argmax()]),
                'merging lowers': lower,
            }
        )
    return rows


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', nargs='?', metavar='RUN', help='a run folder (default: a tiny run)')
    parser.add_argument('--checkpoint', metavar='C', help='of the run (default: its newest)')
    parser.add_argument('--steps', type=int, default=20, metavar='H', help='of each branch (default: 20)')
    parser.add_argument('--merged', type=int, default=20, metavar='N', help='merged branches (default: 20)')
    parser.add_argument('--held-out', type=int, default=16, metavar='N', help='trained ones (default: 16)')
    parser.add_argument(
        '--targets', action='append', metavar='A,B', help='eval skills (default: all); may be given again'
    )
    parser.add_argument('--out', metavar='DIR', help='write merging.json there')
    parser.add_argument('--smoke', action='store_true', help='few and short branches, a check of the script')
    return parser.parse_args()


def main() -> None:
    """Measure and publish."""
    args = arguments()
    run, checkpoint = args.run and Path(args.run), args.checkpoint
    steps, merged, held_out = (8, 4, 3) if args.smoke else (args.steps, args.merged, args.held_out)
    with tempfile.TemporaryDirectory() as scratch:
        if run is None:
            run = fork_runs.train(fork_runs.write_streams(Path(scratch)), Path(scratch) / 'run')
            checkpoint = 'ep4-ba32-rank0.pt'
        start = start_in(Path(scratch) / 'fork', run, checkpoint)
        forked = Forked(Branches(start.config, start.checkpoint), steps)
        trained = measure(forked, merged=merged, held_out=held_out)
    groups = [one.split(',') for one in args.targets] if args.targets else [list(trained.skills)]
    publish(
        'merging-smoke' if args.smoke else 'merging' if args.run else 'merging_tiny',
        [row for targets in groups for row in rows_of(trained, targets)],
        configuration={
            'run': run.name,
            'checkpoint': Path(start.origin.checkpoint).name,
            'steps': steps,
            'merged': merged,
            'held_out': held_out,
        },
        out=args.out,
    )


if __name__ == '__main__':
    main()
