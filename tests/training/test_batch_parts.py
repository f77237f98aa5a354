"""A step's gradient does not depend on how its batch is cut, whatever the samples' numbers of targets."""

from pathlib import Path

import pytest
import torch

from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import weights_of
from tests.support.training_runs import settings, write_yaml

pytestmark = NEEDS


# (ranks, samples of a microbatch): a whole batch of 8, and cut in ways of which some leave a rest.
CUTS = {'whole': (1, 8), 'halves': (1, 4), 'uneven': (1, 3), 'ranks': (2, 4), 'rank parts': (2, 3)}


# A third of digit_2 is wanted, and a sixth drawn: its tokens weigh 2, the others' 0.8.
WEIGHED = {'policy': 'stratified', 'ceiling': {'digit_2': 1 / 6}, 'token_weights': True}


# With and without a model that keeps the losses of skills apart, or weighs them.
@pytest.mark.parametrize(
    'mixing', [{'policy': 'proportional'}, {'policy': 'odm'}, WEIGHED], ids=['proportional', 'odm', 'weighed']
)
def test_weights_do_not_depend_on_how_a_batch_is_cut(
    tmp_path: Path, uneven: Path, launcher: Launcher, mixing: dict
):
    launches = []
    for name, (ranks, microbatch) in CUTS.items():
        keys = settings(uneven, tmp_path / name) | {'global_train_batch_size': 8}
        keys |= {
            'device_train_microbatch_size': microbatch,
            'algorithms': {'data_mixing': mixing},
        }
        launches.append(launcher.ranks(write_yaml(tmp_path / f'{name}.yaml', keys), uneven, ranks))
    finish(*launches)
    whole, *others = (weights_of(tmp_path / name) for name in CUTS)
    for weights in others:
        for name, weight in weights.items():
            # Six steps of 0.01, each rounded at a weight of about 1 to 2^-24.
            torch.testing.assert_close(weight, whole[name], rtol=0, atol=1e-6)
