"""Skill-It in Lightning: a data module that builds the loader, a callback that drives its mixture.

skillit convert addition --out streams/addition
python examples/lightning_trainer.py streams/addition runs/lightning --devices 2

Started again with the same folder, on any number of devices and workers, it goes on with the samples that come next.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from streaming import Stream
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

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


class MixedData(LightningDataModule):
    """The train loader, whose mixture a driver sets, and the eval samples; a round is one epoch of Lightning."""

    def __init__(self, streams: Path, run: Path, workers: int) -> None:
        super().__init__()
        self.streams, self.run, self.workers = streams, run, workers

    def setup(self, stage: str) -> None:
        # Not before: it is here that Lightning has started its ranks.
        def of(skills: tuple[str, ...], split: str) -> dict[str, Stream]:
            return {skill: Stream(local=f'{self.streams}/{skill}', split=split) for skill in skills}

        trainer: Any = self.trainer
        graph = SkillsGraph.load(self.streams / 'graph.json')
        self.dataset = SkillStreamingDataset(
            streams=of(graph.train_skills, 'train'),
            round_size=STEPS_PER_ROUND * GLOBAL_BATCH,
            batch_size=GLOBAL_BATCH // trainer.world_size,
        )
        self.evals = EvalStreams(of(graph.eval_skills, 'eval'))
        policy = SkillIt(graph, eta=0.2, window=3)
        self.driver = MixtureDriver(self.dataset, policy, self.run / 'mixture.jsonl')

    def train_dataloader(self) -> DataLoader:
        # All that is restored is, and the first round has not been asked for: at the start of training it has.
        self.driver.start()
        workers = {'num_workers': self.workers, 'persistent_workers': self.workers > 0}
        return DataLoader(self.dataset, batch_size=self.dataset.batch_size, collate_fn=collate, **workers)


class Mixing(Callback):
    """Evaluates each skill at the end of a round, sets the next mixture, and puts both into Lightning's checkpoints."""

    def __init__(self, data: MixedData) -> None:
        self.data, self.steps = data, None

    def state_dict(self) -> dict[str, Any]:
        return self.data.driver.state_dict(self.steps)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.data.driver.load_state_dict(state_dict)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps = batch_idx + 1
        # Not at the end of the epoch: a checkpoint of this step has the next mixture in it.
        if self.steps == STEPS_PER_ROUND:
            self.data.driver.end_round(evaluate_skills(pl_module.model, self.data.evals, batch_size=64))


class TinyLlama(LightningModule):
    """Any module; it widens the tokens where they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.model = LlamaForCausalLM(
            LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
        )

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs = causal_lm_inputs(batch)
        return self.model(input_ids=inputs['input_ids'], labels=inputs['labels']).loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('streams', type=Path)
    parser.add_argument('run', type=Path)
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--save-every', type=int, default=4)
    parser.add_argument('--devices', type=int, default=1)
    parser.add_argument('--workers', type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(17)
    data = MixedData(options.streams, options.run, options.workers)
    trainer = Trainer(
        devices=options.devices,
        accelerator='auto' if torch.cuda.is_available() else 'cpu',
        max_steps=options.steps,
        callbacks=[
            Mixing(data),
            ModelCheckpoint(options.run, every_n_train_steps=options.save_every, save_last=True),
        ],
        logger=False,
        enable_progress_bar=False,
    )
    last = options.run / 'last.ckpt'
    trainer.fit(TinyLlama(), data, ckpt_path=last if last.is_file() else None)
