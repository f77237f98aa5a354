"""Skill-It in a loop with accelerate: the loader stays as it is, model and optimizer are prepared.

skillit convert addition --out streams/addition
accelerate launch --num_processes 2 examples/accelerate_loop.py streams/addition runs/accelerate

Started again with the same folder, on any number of processes and workers, it goes on with the samples that come
next.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
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


def main(options: argparse.Namespace) -> None:
    """Train up to `options.steps` steps, from where the run stands."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    torch.manual_seed(17)
    graph = SkillsGraph.load(options.streams / 'graph.json')

    def of(skills: tuple[str, ...], split: str) -> dict[str, Stream]:
        return {skill: Stream(local=f'{options.streams}/{skill}', split=split) for skill in skills}

    batch_size = GLOBAL_BATCH // accelerator.num_processes
    dataset = SkillStreamingDataset(
        streams=of(graph.train_skills, 'train'),
        round_size=STEPS_PER_ROUND * GLOBAL_BATCH,
        batch_size=batch_size,
    )
    evals = EvalStreams(of(graph.eval_skills, 'eval'))
    workers = {'num_workers': options.workers, 'persistent_workers': options.workers > 0}
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate, **workers)
    driver = MixtureDriver(dataset, SkillIt(graph, eta=0.2, window=3), options.run / 'mixture.jsonl')

    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    # Without the loader: its dataset gives every rank its own samples.
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(driver)

    step, states = 0, sorted(options.run.glob('step-*'))
    if states:
        accelerator.load_state(str(states[-1]))
        step = int(states[-1].name.removeprefix('step-'))
    driver.start()
    while step < options.steps:
        for batch in driver.batches(loader):
            if step == options.steps:
                return
            inputs = causal_lm_inputs({name: column.to(accelerator.device) for name, column in batch.items()})
            loss = model(input_ids=inputs['input_ids'], labels=inputs['labels']).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % options.save_every == 0:
                accelerator.save_state(str(options.run / f'step-{step:06}'))
        driver.end_round(evaluate_skills(model, evals, batch_size=64))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('streams', type=Path)
    parser.add_argument('run', type=Path)
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--save-every', type=int, default=4)
    parser.add_argument('--workers', type=int, default=2)
    main(parser.parse_args())
