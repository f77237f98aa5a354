"""Every method's YAML plays the same mixtures on one rank and on two: jobs of the same seed, side by side.

On two ranks a step is half a batch on either, and the mean of their gradients. One rank that takes its
batch in two microbatches does the same sums in the same order, so that the weights have to agree bit for
bit. Losses by skill, in training and evaluation, are sums in float64 of the float32 losses of tokens. These are
exact however they are shared among ranks, and so the proportions agree bit for bit too.
"""

from pathlib import Path

import pytest
import torch

from tests.support.launching import NEEDS, Launcher, finish
from tests.support.method_yamls import YAMLS, rounds_to_see, take_losses
from tests.support.run_folders import drawn_samples, rounds_of, weights_of
from tests.support.training_runs import shrunk

# Half of the 8 samples of a step.
MICROBATCH = 4

pytestmark = [pytest.mark.filterwarnings('ignore::UserWarning'), *NEEDS]


@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_one_rank_and_two_play_the_same_mixtures(
    streams: Path, tmp_path: Path, launcher: Launcher, path: Path
):
    rounds = rounds_to_see(path, at_least=3)
    take_losses(path, shrunk(streams, tmp_path / 'none', rounds))
    launches, runs = [], [tmp_path / 'one', tmp_path / 'two']
    for ranks, run in enumerate(runs, start=1):
        overrides = [*shrunk(streams, run, rounds), f'device_train_microbatch_size={MICROBATCH}']
        overrides += [f'callbacks.sample_log.folder={run / "samples"}', 'save_interval=1ep']
        launches.append(launcher.ranks(path, streams, ranks, overrides=overrides))
    finish(*launches)

    one, two = map(drawn_samples, runs)
    assert list(one) == list(range(4 * rounds))
    assert one == two
    assert [line['round'] for line in rounds_of(runs[0])] == list(range(rounds))
    for line, other in zip(*map(rounds_of, runs), strict=True):
        facts = ('round', 'step', 'samples', 'realised', 'passes', 'order')
        measured = ('losses', 'accuracy', 'train_losses', 'proportions')
        assert {key: line.get(key) for key in facts} == {key: other.get(key) for key in facts}
        assert {key: line.get(key) for key in measured} == {key: other.get(key) for key in measured}
    alone, shared = map(weights_of, runs)
    assert alone.keys() == shared.keys()
    assert [name for name in alone if not torch.equal(alone[name], shared[name])] == []
