"""Every method's YAML trains."""

from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support.method_yamls import YAMLS, rounds_to_see, take_losses
from tests.support.run_folders import rounds_of
from tests.support.training_runs import SKILLS, shrunk


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_the_first_rounds_of_every_method(streams: Path, run_folder: Path, path: Path):
    rounds = rounds_to_see(path, at_least=2)
    overrides = shrunk(streams, run_folder, rounds)
    take_losses(path, overrides)
    assert main(['train', str(path), *overrides]) == 0
    lines = rounds_of(run_folder)
    assert [line['round'] for line in lines] == list(range(rounds))
    for line in lines:
        assert set(line['proportions']) == set(SKILLS)
        assert sum(line['proportions'].values()) == pytest.approx(1)
        assert sum(line['samples'].values()) == 32


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_every_method_goes_on_from_the_end_of_a_round(streams: Path, tmp_path: Path, path: Path):
    rounds = rounds_to_see(path, at_least=3)
    whole, rest = (shrunk(streams, tmp_path / name, rounds) for name in ('straight', 'resumed'))
    take_losses(path, whole)
    kept = ['save_interval=1ep', 'save_num_checkpoints_to_keep=-1']
    assert main(['train', str(path), *whole, *kept]) == 0
    checkpoint = tmp_path / 'straight' / 'checkpoints' / f'ep{rounds - 2}-ba{4 * (rounds - 2)}-rank0.pt'
    assert main(['train', str(path), *rest, f'load_path={checkpoint}']) == 0
    straight, resumed = (
        [line['proportions'] for line in rounds_of(tmp_path / name)] for name in ('straight', 'resumed')
    )
    assert resumed == straight[-2:]
