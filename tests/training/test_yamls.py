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
