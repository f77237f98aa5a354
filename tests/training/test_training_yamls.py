"""Every method's YAML trains."""

from pathlib import Path

import pytest
from training_runs import SKILLS, rounds_of, shrunk

from skillit_stream.cli import main

# ADO keeps to the natural mixture for three rounds; Aioli probes for a round a skill before its first mixture.
ROUNDS = {'ado': 4, 'aioli': 5}
YAMLS = sorted((Path(__file__).resolve().parents[2] / 'yamls' / 'addition').glob('*.yaml'))


def rounds_to_see(path: Path, at_least: int) -> int:
    """Rounds after which a method's first mixture of its own has been played."""
    return max(ROUNDS.get(path.stem, 0), at_least)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_the_first_rounds_of_every_method(streams: Path, run_folder: Path, path: Path):
    rounds = rounds_to_see(path, at_least=2)
    assert main(['train', str(path), *shrunk(streams, run_folder, rounds)]) == 0
    lines = rounds_of(run_folder)
    assert [line['round'] for line in lines] == list(range(rounds))
    for line in lines:
        assert set(line['proportions']) == set(SKILLS)
        assert sum(line['proportions'].values()) == pytest.approx(1)
        assert sum(line['samples'].values()) == 32
