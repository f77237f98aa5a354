"""The YAMLs of every method, on the addition corpus."""

from pathlib import Path

from skillit_stream.cli import main
from tests.support.paths import ROOT

# ADO keeps to the natural mixture for three rounds; Aioli probes for a round a skill before its first mixture.
ROUNDS = {'ado': 4, 'aioli': 5}
# Trained elsewhere: the models of a hub, shrunk, and branches, which are more than so short a run may spend.
YAMLS = [
    path
    for path in sorted((ROOT / 'yamls' / 'addition').glob('*.yaml'))
    if 'pretrained_model_name_or_path' not in path.read_text() and path.stem != 'forks'
]


def rounds_to_see(path: Path, at_least: int) -> int:
    """Rounds after which a method's first mixture of its own has been played."""
    return max(ROUNDS.get(path.stem, 0), at_least)


def take_losses(path: Path, overrides: list[str]) -> None:
    """What a curriculum over samples needs beside the streams; tests of one process share them."""
    if 'skillit score' in path.read_text():
        assert main(['score', str(path), *overrides]) == 0
