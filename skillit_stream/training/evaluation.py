"""Evaluation by skill with Composer: all skills in one pass, or one after another.

One pass (:func:`skill_evaluator`) fills its batches across skills and takes the model's
:class:`~skillit_stream.training.skill_metrics.MeanSkillLoss`. An Evaluator a skill (:func:`build_evaluators`) does
with any model that knows Composer's ``LanguageCrossEntropy``; each costs a loader and the metrics' exchange between
ranks. Either way every sample counts once, however many ranks share them: Composer takes away again what the
sampler repeats to give all of them the same number.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from composer.core import DataSpec, Evaluator, Event, State
from composer.utils import dist
from torch.utils.data import DataLoader
from torchmetrics import Metric

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import IGNORE_INDEX, causal_lm_inputs, collate, count_targets
from skillit_stream.loader.eval_streams import EvalSamples, EvalStreams
from skillit_stream.training.skill_metrics import MeanSkillLoss

ALL_SKILLS = 'all'
"""Label of the Evaluator that evaluates them in one pass."""
_ALL_TARGETS = (
    'targets'  # of a widened batch, on the host: how many each sample has, if all but its first are
)
_NO_TARGETS = 1e-9  # target tokens of a batch that has none


def skill_evaluator(
    streams: EvalStreams,
    *,
    batch_size: int,
    microbatch_size: int | None = None,
    eval_interval: str = '1ep',
    samples_per_skill: int | None = None,
    document_end: int | None = None,
    half: int | None = None,
) -> Evaluator:
    """One Evaluator for all skills; the model's eval metrics must hold a ``MeanSkillLoss(streams.skills)``.

    Args:
        streams: Their samples.
        batch_size: Samples a rank and batch.
        microbatch_size: Samples a forward pass; None: those of a batch.
        eval_interval: When it runs, a time string.
        samples_per_skill: Evaluate each skill on its first so many samples, the same ones every time and
            whatever the number of ranks; None: on all.
        document_end: As :func:`causal_lm_inputs`'s.
        half: As :meth:`EvalStreams.all_skills`'s.
    """
    samples = streams.all_skills(samples_per_skill, half=half)
    return _evaluator(
        ALL_SKILLS,
        samples,
        batch_size,
        [MeanSkillLoss.__name__],
        eval_interval,
        microbatch_size=microbatch_size,
        document_end=document_end,
    )


def half_evaluators(
    whole: Evaluator, *, samples_per_skill: int | None, document_end: int | None
) -> list[Evaluator]:
    """As an Evaluator of all skills, one of the first half of each skill's samples and one of the second.

    Args:
        whole: Of :func:`skill_evaluator`.
        samples_per_skill: As there, and so is `document_end`.

    Raises:
        InputError: A skill has too few samples for two halves.
    """
    loader = cast(DataLoader, whole.dataloader.dataloader)
    return [
        skill_evaluator(
            cast(EvalSamples, loader.dataset).streams,
            batch_size=int(loader.batch_size or 1),
            microbatch_size=int(whole.device_eval_microbatch_size),
            samples_per_skill=samples_per_skill,
            document_end=document_end,
            half=half,
        )
        for half in (0, 1)
    ]


def build_evaluators(
    streams: EvalStreams,
    *,
    batch_size: int,
    metric_names: Sequence[str],
    eval_interval: str = '1ep',
    samples_per_skill: int | None = None,
) -> list[Evaluator]:
    """An Evaluator per skill, labelled with its name.

    Args:
        streams: Their samples.
        batch_size: Samples a rank and batch.
        metric_names: Metrics of the model to compute.
        eval_interval: When they run, a time string.
        samples_per_skill: As :func:`skill_evaluator`'s.
    """
    return [
        _evaluator(
            skill, streams.skill(skill, samples_per_skill), batch_size, list(metric_names), eval_interval
        )
        for skill in streams.skills
    ]


def _evaluator(
    label: str,
    samples: EvalSamples,
    batch_size: int,
    metric_names: list[str],
    eval_interval: str,
    *,
    microbatch_size: int | None = None,
    document_end: int | None = None,
) -> Evaluator:
    loader = DataLoader(
        samples,
        batch_size=batch_size,
        sampler=dist.get_sampler(samples, shuffle=False, drop_last=False),
        collate_fn=collate,
    )
    return Evaluator(
        label=label,
        dataloader=token_data_spec(loader, document_end),
        metric_names=metric_names,
        eval_interval=eval_interval,
        subset_num_batches=-1,
        device_eval_microbatch_size=batch_size if microbatch_size is None else microbatch_size,
    )


def evaluates_at_end(state: State) -> bool:
    """Whether Composer evaluates after ``FIT_END``: training has reached its end, where no evaluation ran yet."""
    return any(one.eval_interval(state, Event.FIT_END) for one in state.evaluators if one.eval_interval)


def one_pass_metric(metrics: Mapping[str, Metric]) -> MeanSkillLoss | None:
    """The metric of an Evaluator of all skills; None of one whose label is its skill.

    Args:
        metrics: Name -> metric, from ``state.eval_metrics[label]``.
    """
    return next((one for one in metrics.values() if isinstance(one, MeanSkillLoss)), None)


def evaluated_skills(evaluator: Evaluator, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """The skills that an Evaluator evaluates: those of its ``MeanSkillLoss``, or the one that is its label.

    Raises:
        InputError: It is one of :func:`skill_evaluator`, and its metric is missing or numbers other skills.
    """
    metric = one_pass_metric(metrics)
    known = metric.skills if metric else ()
    samples = getattr(evaluator.dataloader.dataloader, 'dataset', None)
    in_one_pass = MeanSkillLoss.__name__ in (evaluator.metric_names or ())
    if in_one_pass and isinstance(samples, EvalSamples) and known != samples.skills:
        raise InputError(
            f"The model's eval metrics must hold a MeanSkillLoss of the skills {', '.join(samples.skills)} in this "
            f'order, but got: {", ".join(known) or "none"}; pass eval_metrics=[MeanSkillLoss(streams.skills)] to it.'
        )
    return known or (evaluator.label,)


def token_data_spec(loader: DataLoader, document_end: int | None = None) -> DataSpec:
    """A loader of token streams as Composer takes it: widened on the device, tokens counted.

    Args:
        loader: Its batches hold ``tokens`` and maybe a ``loss_mask``.
        document_end: As :func:`causal_lm_inputs`'s.
    """
    return DataSpec(
        loader,
        microbatch_transforms=partial(_widened, document_end=document_end),
        split_batch=_split_rows,
        # Composer divides by the targets alone, which need not be whole.
        get_num_tokens_in_batch=partial(_tokens_in, document_end=document_end),  # pyright: ignore[reportArgumentType]
    )


def _widened(batch: Mapping[str, torch.Tensor], *, document_end: int | None) -> dict[str, torch.Tensor]:
    """A microbatch as the model takes it, and how many targets its samples have where that needs no mask."""
    inputs = causal_lm_inputs(batch, document_end=document_end)
    if 'loss_mask' not in batch and document_end is None:
        samples, length = batch['tokens'].shape
        inputs[_ALL_TARGETS] = torch.full((samples,), length - 1)
    return inputs


def _tokens_in(batch: Mapping[str, torch.Tensor], *, document_end: int | None) -> dict[str, int | float]:
    """Tokens of a batch, and how many of them are targets, widened or not."""
    if 'labels' in batch:
        by_sample = batch[_ALL_TARGETS] if _ALL_TARGETS in batch else batch['labels'][:, 1:] != IGNORE_INDEX
        total, targets = batch['labels'].numel(), int(by_sample.sum())
    else:
        total, targets = batch['tokens'].numel(), count_targets(batch, document_end)
    # Composer divides by the step's sum of them: where a whole step has none, 0 / 0 would be its loss.
    return {'total': total, 'loss_generating': targets or _NO_TARGETS}


def _split_rows(batch: Mapping[str, torch.Tensor], size: int | float) -> list[dict[str, torch.Tensor]]:
    """Microbatches of `size` samples, the last one of what is left."""
    columns = {name: column.split(int(size)) for name, column in batch.items()}
    return [dict(zip(columns, parts, strict=True)) for parts in zip(*columns.values(), strict=True)]
