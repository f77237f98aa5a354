"""Skill-It in a plain training loop: torchrun, DistributedDataParallel, checkpoints at any step.

skillit convert addition --out streams/addition
torchrun --nproc-per-node 2 examples/torchrun_ddp.py streams/addition runs/ddp --steps 105
torchrun --nproc-per-node 4 examples/torchrun_ddp.py streams/addition runs/ddp --steps 200 --workers 3

The second run goes on in the middle of a round, on other ranks and workers, with the samples that come next.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from streaming import Stream
from torch.nn.parallel import DistributedDataParallel
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

GLOBAL_BATCH, STEPS_OF_ROUND = 16, 20


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Train up to `options.steps` steps, from where the run in `options.run` stands."""
    graph = SkillsGraph.load(options.streams / 'graph.json')

    def streams(skills: Sequence[str], split: str) -> dict[str, Stream]:
        return {skill: Stream(local=f'{options.streams}/{skill}', split=split) for skill in skills}

    batch_size = GLOBAL_BATCH // dist.get_world_size()
    dataset = SkillStreamingDataset(
        streams=streams(graph.train_skills, 'train'),
        round_size=GLOBAL_BATCH * STEPS_OF_ROUND,
        batch_size=batch_size,
    )
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    evals = EvalStreams(streams(graph.eval_skills, 'eval'))
    driver = MixtureDriver(dataset, SkillIt(graph, eta=0.2, window=3), options.run / 'mixture.jsonl')

    torch.manual_seed(17)  # the same weights on every rank
    config = LlamaConfig(
        vocab_size=20, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
    )
    network: Any = LlamaForCausalLM(config)
    model = DistributedDataParallel(network.to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    step, checkpoint = 0, options.run / 'checkpoint.pt'
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.module.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        driver.load_state_dict(state['driver'])  # the dataset's state is in it
        step = state['step']
    driver.start()
    while step < options.steps:
        for batch in driver.batches(loader):
            inputs = causal_lm_inputs({name: column.to(device) for name, column in batch.items()})
            model(input_ids=inputs['input_ids'], labels=inputs['labels']).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == options.steps:
                break
        if step % STEPS_OF_ROUND == 0:
            losses = evaluate_skills(model, evals, batch_size=250)
            mixture = driver.end_round(losses)
            if dist.get_rank() == 0:
                print(f'step {step}: ' + ', '.join(f'{skill} {loss:.3f}' for skill, loss in losses.items()))
                print('  next: ' + ', '.join(f'{skill} {one:.3f}' for skill, one in mixture.items()))
    if dist.get_rank() == 0:
        state = {'model': model.module.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step}
        torch.save({**state, 'driver': driver.state_dict()}, checkpoint.with_suffix('.new'))
        checkpoint.with_suffix('.new').replace(checkpoint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train in the process group that torchrun describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument('streams', type=Path)
    parser.add_argument('run', type=Path)
    parser.add_argument('--steps', type=int, default=100)
    parser.add_argument('--workers', type=int, default=2)
    options = parser.parse_args(arguments)
    options.run.mkdir(parents=True, exist_ok=True)
    device = torch.device('cpu')
    if torch.cuda.is_available():
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    # Before the datasets: one process group serves all of them.
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        train(options, device)
    finally:
        dist.destroy_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())
