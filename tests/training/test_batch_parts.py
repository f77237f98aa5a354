"""A step's gradient does not depend on how its batch is cut, whatever the samples' numbers of targets."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from streaming import MDSWriter

from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import weights_of
from tests.support.streams_reading import samples_in
from tests.support.training_runs import SKILLS, settings, write_yaml

pytestmark = NEEDS


@pytest.fixture
def uneven(streams: Path, tmp_path: Path) -> Path:
    """The streams, but the first few to all tokens of a sample are targets."""
    root = Path(shutil.copytree(streams, tmp_path / 'uneven'))
    generator = np.random.default_rng(1)
    for skill in SKILLS:
        samples = samples_in(streams / skill / 'train')
        shutil.rmtree(root / skill / 'train')
        columns = {'tokens': 'ndarray:uint16:17', 'loss_mask': 'ndarray:uint8:17'}
        with MDSWriter(out=str(root / skill / 'train'), columns=columns) as writer:
            for sample in samples:
                mask = np.zeros(17, np.uint8)
                mask[: generator.integers(2, 18)] = 1
                writer.write({'tokens': sample['tokens'], 'loss_mask': mask})
    return root


# (ranks, samples of a microbatch): a whole batch of 8, and cut in ways of which some leave a rest.
CUTS = {'whole': (1, 8), 'halves': (1, 4), 'uneven': (1, 3), 'ranks': (2, 4), 'rank parts': (2, 3)}


# With and without a model that keeps the losses of skills apart.
@pytest.mark.parametrize('policy', ['proportional', 'odm'])
def test_weights_do_not_depend_on_how_a_batch_is_cut(
    tmp_path: Path, uneven: Path, launcher: Launcher, policy: str
):
    launches = []
    for name, (ranks, microbatch) in CUTS.items():
        keys = settings(uneven, tmp_path / name) | {'global_train_batch_size': 8}
        keys |= {
            'device_train_microbatch_size': microbatch,
            'algorithms': {'data_mixing': {'policy': policy}},
        }
        launches.append(launcher.ranks(write_yaml(tmp_path / f'{name}.yaml', keys), uneven, ranks))
    finish(*launches)
    whole, *others = (weights_of(tmp_path / name) for name in CUTS)
    for weights in others:
        for name, weight in weights.items():
            # Six steps of 0.01, each rounded at a weight of about 1 to 2^-24.
            torch.testing.assert_close(weight, whole[name], rtol=0, atol=1e-6)
