"""Skill-It in Hugging Face's Trainer: a Trainer that takes the loader as it is, a callback that drives its mixture.

skillit convert addition --out streams/addition
torchrun --nproc_per_node 2 examples/hf_trainer.py streams/addition runs/hf

Started again with the same folder, on any number of processes and workers, it goes on with the samples that come
next.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from streaming import Stream
from torch.utils.data import DataLoader
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint

from skillit_stream import (
    EvalStreams,
    MixtureDriver,
    SkillIt,
    SkillsGraph,
    SkillStreamingDataset,
    causal_lm_inputs,
    collate,
    evaluate_skills,
)

GLOBAL_BATCH, STEPS_PER_ROUND = 16, 8


class MixtureTrainer(Trainer):
    """A Trainer over one loader, whose dataset gives every rank its own samples."""

    def __init__(self, *, loader: DataLoader, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loader = loader

    def get_train_dataloader(self) -> DataLoader:
        return self.loader

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        inputs = causal_lm_inputs(inputs)
        wanted = {name: inputs[name] for name in ('input_ids', 'labels')}
        return super().compute_loss(model, wanted, *args, **kwargs)


class Mixing(TrainerCallback, ExportableState):
    """Evaluates each skill at the end of a round, sets the next mixture, and puts both into trainer_state.json."""

    def __init__(self, driver: MixtureDriver, evals: EvalStreams) -> None:
        self.driver, self.evals = driver, evals
        self.steps = 0  # batches of the round that were trained

    def state(self) -> dict[str, Any]:
        return {'args': {}, 'attributes': {'steps': self.steps, 'driver': self.driver.state_dict(self.steps)}}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step:
            callbacks: Any = state.stateful_callbacks
            saved = callbacks['Mixing']['attributes']
            self.driver.load_state_dict(saved['driver'])
            self.steps = saved['steps']
        self.driver.start()

    def on_substep_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.steps = self.steps % STEPS_PER_ROUND + 1

    def on_step_end(self, args: Any, state: TrainerState, control: Any, *, model: Any, **kwargs: Any) -> None:
        self.on_substep_end(args, state, control)
        # Not at the end of the epoch: a checkpoint of this step has the next mixture in it.
        if self.steps == STEPS_PER_ROUND:
            self.driver.end_round(evaluate_skills(model, self.evals, batch_size=64))


def main(options: argparse.Namespace) -> None:
    """Train up to `options.steps` steps, from where the run stands."""
    arguments = TrainingArguments(
        output_dir=str(options.run),
        max_steps=options.steps,
        save_steps=options.save_every,
        ignore_data_skip=True,  # the driver's state knows what comes next
        learning_rate=2e-3,
        lr_scheduler_type='constant',
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        seed=17,
    )
    graph = SkillsGraph.load(options.streams / 'graph.json')

    def of(skills: tuple[str, ...], split: str) -> dict[str, Stream]:
        return {skill: Stream(local=f'{options.streams}/{skill}', split=split) for skill in skills}

    batch_size = GLOBAL_BATCH // arguments.world_size
    dataset = SkillStreamingDataset(
        streams=of(graph.train_skills, 'train'),
        round_size=STEPS_PER_ROUND * GLOBAL_BATCH,
        batch_size=batch_size,
    )
    workers = {'num_workers': options.workers, 'persistent_workers': options.workers > 0}
    driver = MixtureDriver(dataset, SkillIt(graph, eta=0.2, window=3), options.run / 'mixture.jsonl')
    config = LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
    trainer = MixtureTrainer(
        model=LlamaForCausalLM(config),
        args=arguments,
        loader=DataLoader(dataset, batch_size=batch_size, collate_fn=collate, **workers),
        callbacks=[Mixing(driver, EvalStreams(of(graph.eval_skills, 'eval')))],
    )
    trainer.train(resume_from_checkpoint=options.run.is_dir() and get_last_checkpoint(str(options.run)))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('streams', type=Path)
    parser.add_argument('run', type=Path)
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--save-every', type=int, default=4)
    parser.add_argument('--workers', type=int, default=2)
    main(parser.parse_args())
