"""Where Composer is not installed: a training loop of one's own runs, and the rest says what to install."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import FIND_HELPERS

# Composer is said not to be there, and neither is torchmetrics, which comes with it.
_MISSING = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('composer', 'torchmetrics'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Missing())
"""

_PROGRAM = """
import contextlib, io, json
from pathlib import Path
import torch
from torch.utils.data import DataLoader
import skillit_stream
from skillit_stream import EvalStreams, MixtureDriver, SkillIt, SkillsGraph, causal_lm_inputs, collate, evaluate_skills
from skillit_stream.cli import main
from tests.support.mds import SIZES, mixed_dataset, open_streams

root, folder = Path(sys.argv[1]), Path(sys.argv[2])
dataset = mixed_dataset(root)
driver = MixtureDriver(dataset, SkillIt(SkillsGraph.identity(tuple(SIZES)), eta=0.5), folder / 'mixture.jsonl')
model = torch.nn.Sequential(torch.nn.Embedding(64, 8), torch.nn.Linear(8, 64))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
evals = EvalStreams(open_streams(root, SIZES))
losses = [evaluate_skills(model, evals, batch_size=16)]
driver.start(losses[0])
for _ in range(2):
    for batch in DataLoader(dataset, batch_size=4, collate_fn=collate, num_workers=1):
        inputs = causal_lm_inputs(batch)
        logits = model(inputs['input_ids'])[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs['labels'][:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    losses.append(evaluate_skills(model, evals, batch_size=16))
    driver.end_round(losses[-1])

refused = {}
for name in skillit_stream.__all__:
    try:
        getattr(skillit_stream, name)
    except ImportError as error:
        refused[name] = str(error)
(folder / 'run.yaml').write_text(json.dumps(SETTINGS))
said = io.StringIO()
with contextlib.redirect_stderr(said):
    code = main(['train', str(folder / 'run.yaml')])
print(json.dumps([losses, driver.dataset.samples_seen, refused, code, said.getvalue()]))
"""

_SETTINGS = {
    'streams': 'streams',
    'run_name': 'tiny',
    'save_folder': 'run',
    'max_duration': '1ep',
    'global_train_batch_size': 4,
    'train_loader': {'round_size': 48},
    'model': {'config': {'model_type': 'llama', 'hidden_size': 16}},
    'optimizer': {'name': 'adamw', 'lr': 0.01},
    'algorithms': {'data_mixing': {'policy': 'stratified'}},
}


@pytest.fixture(scope='module')
def found(streams_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process finds that has no Composer."""
    folder = tmp_path_factory.mktemp('without')
    code = FIND_HELPERS + _MISSING + f'SETTINGS = {_SETTINGS!r}\n' + _PROGRAM
    done = subprocess.run(
        [sys.executable, '-c', code, str(streams_root), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_loop_of_ones_own_trains_and_evaluates(found: Any):
    losses, seen, *_ = found
    assert sum(seen.values()) == 2 * 48
    assert all(last < first for first, last in zip(losses[0].values(), losses[-1].values(), strict=True))


def test_every_name_that_needs_it_says_what_to_install(found: Any):
    *_, refused, _, _ = found
    assert refused == {
        name: f"skillit_stream.{name} needs Composer, which is not installed: pip install 'mosaicml[nlp]>=0.32.1,<0.33'"
        for name in ('DataMixing', 'MeanSkillLoss', 'SkillLossModel', 'skill_evaluator')
    }


def test_so_does_the_command_line(found: Any):
    *_, code, said = found
    assert said == (
        "skillit: This command needs Composer, which is not installed: pip install 'mosaicml[nlp]>=0.32.1,<0.33'\n"
    )
    assert code == 2
