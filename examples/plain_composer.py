"""Skill-It in a Composer script of one's own: two objects, the rest is plain Composer.

skillit convert addition --out streams/addition
python examples/plain_composer.py streams/addition 10ep
composer -n 2 examples/plain_composer.py streams/addition 10ep
"""

import sys
from typing import Any

from composer import DataSpec, Trainer
from composer.models import HuggingFaceModel
from composer.utils import dist, get_device
from streaming import Stream
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from skillit_stream import (
    DataMixing,
    EvalStreams,
    MeanSkillLoss,
    SkillIt,
    SkillsGraph,
    SkillStreamingDataset,
    causal_lm_inputs,
    collate,
    skill_evaluator,
)

STREAMS = sys.argv[1] if len(sys.argv) > 1 else 'streams/addition'
DURATION = sys.argv[2] if len(sys.argv) > 2 else '10ep'
GLOBAL_BATCH = 64


def streams_of(skills: tuple[str, ...], split: str) -> dict[str, Stream]:
    """One stream a skill."""
    return {skill: Stream(local=f'{STREAMS}/{skill}', split=split) for skill in skills}


if __name__ == '__main__':
    dist.initialize_dist(get_device(None))  # one process group for datasets and Trainer
    graph = SkillsGraph.load(f'{STREAMS}/graph.json')
    batch = GLOBAL_BATCH // dist.get_world_size()
    dataset = SkillStreamingDataset(
        streams=streams_of(graph.train_skills, 'train'), round_size=50 * GLOBAL_BATCH, batch_size=batch
    )
    loader = DataLoader(dataset, batch_size=batch, collate_fn=collate, num_workers=2, persistent_workers=True)
    evals = EvalStreams(streams_of(graph.eval_skills, 'eval'))
    config = LlamaConfig(
        vocab_size=20, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
    )
    config.initializer_range = 0.125
    losses = MeanSkillLoss(graph.eval_skills)
    model = HuggingFaceModel(LlamaForCausalLM(config), eval_metrics=[losses], use_logits=True)
    trainer = Trainer(
        model=model,
        optimizers=AdamW(model.parameters(), lr=2e-3),
        train_dataloader=DataSpec(loader, microbatch_transforms=causal_lm_inputs),
        eval_dataloader=skill_evaluator(evals, batch_size=250),
        algorithms=[DataMixing(SkillIt(graph, eta=0.2, window=3))],
        max_duration=DURATION,
    )
    trainer.fit()
    measured: Any = trainer.state.eval_metrics['all']['MeanSkillLoss']
    for skill, loss in measured.by_skill()['losses'].items():
        print(f'{skill}: loss {loss:.3f}, {dataset.samples_seen[skill]} samples')
