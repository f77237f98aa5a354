"""Evaluates in several ranks, in all the ways there are, and writes down what came out."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from composer import Trainer
from composer.metrics.nlp import LanguageCrossEntropy
from composer.utils import dist, get_device
from streaming import Stream

from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixing.evaluation import evaluate_skills
from skillit_stream.mixing.gradients import gradient_products
from skillit_stream.training.evaluation import (
    ALL_SKILLS,
    build_evaluators,
    one_pass_metric,
    skill_evaluator,
)
from skillit_stream.training.models import LOSS_METRIC
from skillit_stream.training.skill_metrics import Figures, MeanSkillLoss
from tests.support.training_runs import SKILLS, tiny_model

LIMIT = 5
# Samples a rank and batch, a forward pass, a skill (None: all).
WAYS: list[tuple[int, int, int | None]] = [*product([1, 4, 7], [1, 3], [None]), (4, 4, LIMIT), (64, 64, None)]


def evaluate_all(streams: Path) -> list[dict[str, Any]]:
    """For each of `WAYS` the figures of one pass, and the losses of an Evaluator a skill and without Composer."""
    model = tiny_model(streams)
    evals = EvalStreams({skill: Stream(local=str(streams / skill), split='eval') for skill in SKILLS})
    metrics = [LanguageCrossEntropy(), MeanSkillLoss(evals.skills, accuracy=True)]
    model.val_metrics = {type(metric).__name__: metric for metric in metrics}
    trainer = Trainer(model=model, device='cpu', progress_bar=False)
    try:
        return [_evaluate(trainer, evals, *way) for way in WAYS]
    finally:
        trainer.close()


def _evaluate(
    trainer: Trainer, evals: EvalStreams, batch_size: int, microbatch: int, limit: int | None
) -> dict[str, Any]:
    options: dict[str, Any] = {'batch_size': batch_size, 'samples_per_skill': limit}
    at_once = skill_evaluator(evals, **options)
    apart = build_evaluators(evals, metric_names=[LOSS_METRIC], **options)
    for one in (at_once, *apart):
        one.device_eval_microbatch_size = microbatch
    trainer.eval(at_once)
    trainer.eval(apart)
    found = trainer.state.eval_metrics
    network: Any = trainer.state.model
    plain = evaluate_skills(getattr(network, 'module', network).model, evals, **options)
    assert [plain] * dist.get_world_size() == dist.all_gather_object(plain)
    inner = getattr(network, 'module', network).model
    gradients = gradient_products(inner, evals, samples_per_skill=LIMIT)
    return {
        'limit': limit,
        'at once': figures_of(trainer),
        'plain': plain,
        'gradients': gradients,
        'apart': {skill: float(found[skill][LOSS_METRIC].compute()) for skill in evals.skills},
    }


def figures_of(trainer: Trainer) -> Figures:
    """Of the pass over all skills that was the last."""
    metric = one_pass_metric(trainer.state.eval_metrics[ALL_SKILLS])
    assert metric
    return metric.by_skill()


def main(arguments: Sequence[str]) -> int:
    """`STREAMS OUT`."""
    streams, out = map(Path, arguments)
    dist.initialize_dist(get_device('cpu'))
    found = evaluate_all(streams)
    if dist.get_global_rank() == 0:
        out.write_text(json.dumps(found))
    return 0
