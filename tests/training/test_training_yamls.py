"""Every method's YAML trains."""

from pathlib import Path

import pytest
from training_runs import SKILLS, rounds_of

from skillit_stream.cli import main

# Aioli probes for a round a skill before its first mixture.
ROUNDS = {'aioli': 5}
YAMLS = sorted((Path(__file__).resolve().parents[2] / 'yamls' / 'addition').glob('*.yaml'))


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_the_first_rounds_of_every_method(streams: Path, run_folder: Path, path: Path):
    rounds = ROUNDS.get(path.stem, 2)
    small = ['hidden_size=16', 'intermediate_size=32', 'num_hidden_layers=1', 'num_attention_heads=2']
    overrides = {
        'streams': streams,
        'save_folder': run_folder,
        'max_duration': f'{rounds}ep',
        'train_loader.round_size': 32,
        'global_train_batch_size': 8,
        'device': 'cpu',
        'progress_bar': 'false',
        'loggers': '{}',
    }
    arguments = [f'{key}={value}' for key, value in overrides.items()]
    arguments += [f'model.config.{one}' for one in [*small, 'num_key_value_heads=2']]
    if 'skillit score' in path.read_text():
        assert main(['score', str(path), *arguments]) == 0
    assert main(['train', str(path), *arguments]) == 0
    lines = rounds_of(run_folder)
    assert [line['round'] for line in lines] == list(range(rounds))
    for line in lines:
        assert set(line['proportions']) == set(SKILLS)
        assert sum(line['proportions'].values()) == pytest.approx(1)
        assert sum(line['samples'].values()) == 32
