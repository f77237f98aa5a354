"""Skill-It with torchdata's StatefulDataLoader, as torchtitan loads data: on any number of workers after a stop.

skillit convert addition --out streams/addition
python examples/stateful_dataloader.py streams/addition runs/stateful 25 2
python examples/stateful_dataloader.py streams/addition runs/stateful 60 3

A StatefulDataLoader keeps a state of every worker, takes it back on as many workers and ranks alone, and knows nothing
of the mixture. The driver's state is of all ranks and workers and holds the dataset's: it is always loaded. The
loader's adds nothing to it; torchtitan keeps it all the same, so this example does where the workers are as many.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from streaming import Stream
from torchdata.stateful_dataloader import StatefulDataLoader
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

BATCH, STEPS_OF_ROUND = 16, 20


def main(arguments: Sequence[str]) -> int:
    """`STREAMS RUN STEPS WORKERS`: train up to so many steps, from where the run stands."""
    folder, run, until, workers = arguments[0], Path(arguments[1]), int(arguments[2]), int(arguments[3])
    run.mkdir(parents=True, exist_ok=True)
    graph = SkillsGraph.load(f'{folder}/graph.json')
    train, evals = (
        {skill: Stream(local=f'{folder}/{skill}', split=split) for skill in skills}
        for skills, split in ((graph.train_skills, 'train'), (graph.eval_skills, 'eval'))
    )
    dataset = SkillStreamingDataset(streams=train, round_size=BATCH * STEPS_OF_ROUND, batch_size=BATCH)
    loader = StatefulDataLoader(dataset, batch_size=BATCH, collate_fn=collate, num_workers=workers)
    driver = MixtureDriver(dataset, SkillIt(graph, eta=0.2, window=3), run / 'mixture.jsonl')
    measured = EvalStreams(evals)

    torch.manual_seed(17)
    model: Any = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    step, checkpoint = 0, run / 'checkpoint.pt'
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        driver.load_state_dict(state['driver'])
        if state['workers'] == workers:
            loader.load_state_dict(state['loader'])
        step = state['step']
    driver.start()
    while step < until:
        for batch in driver.batches(loader):
            inputs = causal_lm_inputs(batch)
            model(input_ids=inputs['input_ids'], labels=inputs['labels']).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == until:
                break
        if step % STEPS_OF_ROUND == 0:
            driver.end_round(evaluate_skills(model, measured, batch_size=250))
            print(f'step {step}: ' + str(dataset.next_proportions))
    states = {'model': model, 'optimizer': optimizer, 'driver': driver, 'loader': loader}
    state = {name: one.state_dict() for name, one in states.items()}
    torch.save({**state, 'step': step, 'workers': workers}, checkpoint)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
