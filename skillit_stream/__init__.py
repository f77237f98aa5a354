"""Skill-It data mixtures for streaming pre-training, on MosaicML Streaming and Composer.

Two objects go into any Composer Trainer: a :class:`SkillStreamingDataset` under the train dataloader and
:class:`DataMixing` among the algorithms::

    graph = SkillsGraph.load('graph.json')
    dataset = SkillStreamingDataset(streams={...}, round_size=512_000, batch_size=32)
    loader = DataLoader(dataset, batch_size=32, collate_fn=collate, num_workers=8, persistent_workers=True)
    trainer = Trainer(
        model=model,  # a HuggingFaceModel(..., eval_metrics=[MeanSkillLoss(eval_skills)])
        train_dataloader=DataSpec(loader, microbatch_transforms=causal_lm_inputs),
        eval_dataloader=skill_evaluator(EvalStreams({...}), batch_size=32),  # a pass over all eval skills
        algorithms=[DataMixing(SkillIt(graph, eta=0.5, window=3))],
    )

Names are imported when they are first used: the mixture layer needs neither torch nor Composer, and in a training
loop of one's own (:class:`MixtureDriver`, :func:`evaluate_skills`) nothing needs Composer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skillit_stream.base.errors import naming_composer

if TYPE_CHECKING:
    from skillit_stream.base.errors import InputError
    from skillit_stream.loader.batches import causal_lm_inputs, collate
    from skillit_stream.loader.dataset import SkillStreamingDataset
    from skillit_stream.loader.eval_streams import EvalStreams
    from skillit_stream.mixing.driver import MixtureDriver
    from skillit_stream.mixing.evaluation import evaluate_skills
    from skillit_stream.mixing.gradients import gradient_products
    from skillit_stream.mixture import (
        MixturePolicy,
        RoundObservation,
        SkillIt,
        SkillsGraph,
        StaticMixture,
        build_policy,
        register,
    )
    from skillit_stream.training.data_mixing import DataMixing
    from skillit_stream.training.evaluation import skill_evaluator
    from skillit_stream.training.skill_losses import SkillLossModel
    from skillit_stream.training.skill_metrics import MeanSkillLoss

_HOMES = {
    'DataMixing': 'skillit_stream.training.data_mixing',
    'EvalStreams': 'skillit_stream.loader.eval_streams',
    'InputError': 'skillit_stream.base.errors',
    'MeanSkillLoss': 'skillit_stream.training.skill_metrics',
    'MixtureDriver': 'skillit_stream.mixing.driver',
    'MixturePolicy': 'skillit_stream.mixture',
    'RoundObservation': 'skillit_stream.mixture',
    'SkillIt': 'skillit_stream.mixture',
    'SkillLossModel': 'skillit_stream.training.skill_losses',
    'SkillStreamingDataset': 'skillit_stream.loader.dataset',
    'SkillsGraph': 'skillit_stream.mixture',
    'StaticMixture': 'skillit_stream.mixture',
    'build_policy': 'skillit_stream.mixture',
    'causal_lm_inputs': 'skillit_stream.loader.batches',
    'collate': 'skillit_stream.loader.batches',
    'evaluate_skills': 'skillit_stream.mixing.evaluation',
    'gradient_products': 'skillit_stream.mixing.gradients',
    'register': 'skillit_stream.mixture',
    'skill_evaluator': 'skillit_stream.training.evaluation',
}

__all__ = [
    'DataMixing',
    'EvalStreams',
    'InputError',
    'MeanSkillLoss',
    'MixtureDriver',
    'MixturePolicy',
    'RoundObservation',
    'SkillIt',
    'SkillLossModel',
    'SkillStreamingDataset',
    'SkillsGraph',
    'StaticMixture',
    'build_policy',
    'causal_lm_inputs',
    'collate',
    'evaluate_skills',
    'gradient_products',
    'register',
    'skill_evaluator',
]
__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    with naming_composer(f'skillit_stream.{name}'):
        return getattr(import_module(_HOMES[name]), name)
