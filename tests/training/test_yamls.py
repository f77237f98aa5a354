"""Every method's YAML trains."""

from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support.paths import ROOT
from tests.support.training_runs import SKILLS, rounds_of, shrunk

# ADO keeps to the natural mixture for three rounds; Aioli probes for a round a skill before its first mixture.
ROUNDS = {'ado': 4, 'aioli': 5}
# The models of a hub are trained elsewhere, shrunk.
YAMLS = [
    path
    for path in sorted((ROOT / 'yamls' / 'addition').glob('*.yaml'))
    if 'pretrained_model_name_or_path' not in path.read_text()
]


def rounds_to_see(path: Path, at_least: int) -> int:
    """Rounds after which a method's first mixture of its own has been played."""
    return max(ROUNDS.get(path.stem, 0), at_least)


def take_losses(path: Path, overrides: list[str]) -> None:
    """What a curriculum over samples needs beside the streams; tests of one session share them."""
    if 'skillit score' in path.read_text():
        assert main(['score', str(path), *overrides]) == 0


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
