"""Records of finished runs: which ones count, and under which names."""

from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.graphs.finished_runs import losses_of_table
from skillit_stream.graphs.records import Record, Records, sign, write_table
from skillit_stream.mixture.graph_formulas import MeasuredLosses
from skillit_stream.training.config import load_config
from tests.support.graph_runs import STEPS


def record(mix: tuple[str, ...], signature: str = 's', weights: str = 'w') -> Record:
    """A finished run."""
    return Record(signature=signature, trained_on=mix, steps=4, starting_weights=weights, losses={'a': 1.5})


@pytest.mark.parametrize(
    'override',
    [
        'optimizer.lr=0.02',
        'seed=4',
        'model.config.hidden_size=32',
        'eval_loader.batch_size=5',
        "algorithms.data_mixing.groups='_'",
    ],
)
def test_what_changes_the_losses_changes_the_signature(training_yaml: Path, override: str):
    plain, changed = load_config(training_yaml), load_config(training_yaml, [override])
    assert sign(plain, b'streams', STEPS) != sign(changed, b'streams', STEPS)


@pytest.mark.parametrize(
    'override',
    [
        'train_loader.num_workers=2',
        'save_folder=elsewhere',
        'run_name=x',
        'max_duration=9ep',
        'streams=moved',
    ],
)
def test_what_does_not_change_them_keeps_it(training_yaml: Path, override: str):
    plain, changed = load_config(training_yaml), load_config(training_yaml, [override])
    assert sign(plain, b'streams', STEPS) == sign(changed, b'streams', STEPS)


def test_steps_and_streams_are_in_the_signature(training_yaml: Path):
    config = load_config(training_yaml)
    assert len({sign(config, b'streams', 4), sign(config, b'streams', 5), sign(config, b'others', 4)}) == 3


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    records = Records(tmp_path / 'runs', 's')
    records.save(record(('a', 'b')))
    assert records.load(('a', 'b')) == record(('a', 'b'))
    assert records.missing([('a', 'b'), ('a',), ()]) == [('a',), ()]


def test_names_with_a_plus_or_a_slash_do_not_meet(tmp_path: Path):
    records = Records(tmp_path, 's')
    mixes = [(), ('start',), ('a+b',), ('a', 'b'), ('a/b',), ('a', 'b+c'), ('a+b', 'c')]
    for mix in mixes:
        records.save(record(mix))
    assert len(list(tmp_path.iterdir())) == len(mixes)
    assert records.missing(mixes) == []


@pytest.mark.parametrize('text', ['', '{"version": 1', '[]', '{"version": 1, "trained_on": ["a"]}'])
def test_a_broken_record_is_not_done(tmp_path: Path, text: str):
    records = Records(tmp_path, 's')
    records.path(('a',)).write_text(text)
    assert records.missing([('a',)]) == [('a',)]


def test_a_record_under_another_signature_is_not_done(tmp_path: Path):
    Records(tmp_path, 'old').save(record(('a',), signature='old'))
    assert Records(tmp_path, 's').missing([('a',)]) == [('a',)]


def test_runs_from_different_weights_are_refused(tmp_path: Path):
    records = Records(tmp_path, 's')
    records.save(record(()))
    records.save(record(('a',), weights='other'))
    with pytest.raises(InputError, match=r'on-a\.json is of a run from other starting weights'):
        records.losses([('a',)], records.done(()))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='choose another folder with --work'):
        Records(tmp_path / 'file', 's').save(record(('a',)))


def test_the_table_is_read_back_exactly(tmp_path: Path):
    losses = MeasuredLosses(
        {'a': 1 / 3, 'b, c': 2.0}, {('a',): {'a': 0.1, 'b, c': 1e-7}, ('a', 'b, c'): {'a': 0.3, 'b, c': 1.0}}
    )
    write_table(tmp_path / 'losses.csv', losses)
    found = losses_of_table(str(tmp_path / 'losses.csv'))
    assert found.losses == losses
    assert found.train_skills == ('a', 'b, c')
