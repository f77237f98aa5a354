"""`skillit score`: the loss of every sample, and runs that draw by it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from skillit_stream.audit.replay import Replay
from skillit_stream.cli import main
from skillit_stream.formats.sample_losses import RankedLosses, losses_folder
from skillit_stream.training import scoring as scoring_module
from skillit_stream.training.config import load_config
from skillit_stream.training.scoring import ScoringPass, cut_into_parts
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import SKILLS, TRAIN_SAMPLES, settings, write_yaml

CURRICULUM = {'policy': 'sample_curriculum', 'start': 0.1, 'full_at': 0.7}


@pytest.fixture
def own_streams(streams: Path, tmp_path: Path) -> Path:
    """Streams that a test may add losses to."""
    # Other tests of the session may have left losses of their own model there.
    return Path(shutil.copytree(streams, tmp_path / 'addition', ignore=shutil.ignore_patterns('losses')))


@pytest.fixture
def curriculum(tmp_path: Path, own_streams: Path, run_folder: Path) -> Path:
    """The YAML of a run of four rounds by the losses of its samples."""
    keys: dict[str, Any] = settings(own_streams, run_folder)
    keys |= {'max_duration': '4ep', 'algorithms': {'data_mixing': CURRICULUM}}
    return write_yaml(tmp_path / 'curriculum.yaml', keys)


def stored(streams: Path, skill: str, name: str = 'initial') -> tuple[RankedLosses, np.ndarray]:
    """What was saved, and the losses in the order of the stream."""
    ranked = RankedLosses.load(losses_folder(streams / skill / 'train', name), skill)
    losses = np.empty(ranked.samples, np.float32)
    for begin, end in zip(ranked.starts[:-1], ranked.starts[1:], strict=True):
        losses[begin + ranked.rows[begin:end]] = ranked.losses[begin:end]
    return ranked, losses


def test_the_losses_are_those_of_a_plain_loop(curriculum: Path, own_streams: Path):
    assert main(['score', str(curriculum)]) == 0
    scoring = ScoringPass(load_config(str(curriculum), []), 'initial')
    assert not any(map(scoring.is_missing, scoring.parts()))
    first = 0
    for skill in SKILLS:
        ranked, losses = stored(own_streams, skill)
        assert len(losses) == TRAIN_SAMPLES
        assert (np.diff(ranked.losses) >= 0).all()
        for row in (0, 7, TRAIN_SAMPLES - 1):
            sample = scoring._streams[first + row]
            tokens = torch.tensor(sample['tokens'].astype(np.int64))
            logits = scoring._model.model(input_ids=tokens[None]).logits[0, :-1]
            targets = tokens[1:]
            kept = torch.tensor(sample['loss_mask'][1:] > 0) if 'loss_mask' in sample else targets >= 0
            expected = functional.cross_entropy(logits[kept], targets[kept]).item()
            assert losses[row] == pytest.approx(expected, rel=1e-5)
        first += TRAIN_SAMPLES


def test_a_run_draws_the_easiest_samples_first_and_its_audit_knows(
    curriculum: Path, own_streams: Path, run_folder: Path
):
    assert main(['score', str(curriculum)]) == 0
    assert main(['train', str(curriculum)]) == 0
    joined = np.concatenate([stored(own_streams, skill)[1] for skill in SKILLS])
    lines, steps = rounds_of(run_folder), drawn_samples(run_folder)
    drawn = [
        [one for step in range(6 * number, 6 * number + 6) for one in steps[step]] for number in range(4)
    ]
    for number, fraction in enumerate([0.1 + 0.9 * 0.25 / 0.7, 0.1 + 0.9 * 0.5 / 0.7, 1.0]):
        limit = np.sort(joined)[round(fraction * len(joined)) - 1]
        assert max(joined[drawn[number]]) <= limit
        counts = np.bincount(np.array(drawn[number]) // TRAIN_SAMPLES, minlength=3)
        assert list(lines[number]['samples'].values()) == counts.tolist()
    assert [Replay(run_folder).sample_ids(number).tolist() for number in range(4)] == drawn
    shutil.rmtree(losses_folder(own_streams / 'digit_1' / 'train', 'initial'))
    assert main(['audit', str(run_folder), '--round', '1']) == 2


def test_a_run_by_losses_that_are_not_there_says_how_to_take_them(curriculum: Path, capsys: Any):
    assert main(['train', str(curriculum)]) == 2
    assert 'skillit score YAML --name initial' in capsys.readouterr().err


def test_parts_are_whole_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring_module, 'PART', 10)
    parts = cut_into_parts('a', np.array([4, 0, 7, 12, 3, 2]), 100)
    assert [(part.number, part.first, part.samples) for part in parts] == [
        (0, 100, 11),
        (1, 111, 12),
        (2, 123, 5),
    ]


def test_tasks_share_the_work_and_a_stopped_pass_goes_on(curriculum: Path, own_streams: Path, capsys: Any):
    assert main(['score', str(curriculum), '--task', '1/2']) == 0
    assert 'Not done yet, by other tasks' in capsys.readouterr().err
    scoring = ScoringPass(load_config(str(curriculum), []), 'initial')
    assert [scoring.is_missing(part) for part in scoring.parts()] == [True, False, True]
    assert main(['score', str(curriculum), '--task', '0/2']) == 0
    shared = [stored(own_streams, skill)[1] for skill in SKILLS]
    assert main(['score', str(curriculum), '--name', 'whole']) == 0
    whole = [stored(own_streams, skill, 'whole')[1] for skill in SKILLS]
    # Batches of other sizes may round differently, so equal to float32.
    np.testing.assert_allclose(shared, whole, rtol=1e-5)
    assert not list(own_streams.rglob('parts'))


def test_where_memory_does_not_hold_a_pass_it_takes_smaller_ones(
    curriculum: Path, own_streams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main(['score', str(curriculum), '--name', 'whole', 'eval_loader.batch_size=16']) == 0
    at_once, tried, most = ScoringPass._losses, [], 3

    def with_little_memory(self: ScoringPass, ids: range) -> torch.Tensor:
        tried.append(len(ids))
        if len(ids) > most:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return at_once(self, ids)

    monkeypatch.setattr(ScoringPass, '_losses', with_little_memory)
    assert main(['score', str(curriculum), '--name', 'parts', 'eval_loader.batch_size=16']) == 0
    assert tried[:4] == [16, 8, 4, 2]
    assert max(tried[4:]) == 2
    for skill in SKILLS:
        np.testing.assert_allclose(
            stored(own_streams, skill, 'parts')[1], stored(own_streams, skill, 'whole')[1], rtol=1e-5
        )
    most = 0
    assert main(['score', str(curriculum), '--name', 'none', 'eval_loader.batch_size=16']) == 2
    assert 'does not hold a pass over one sample' in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_cluster_takes_the_same_losses(
    curriculum: Path, own_streams: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip('ray')
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    assert main(['score', str(curriculum), '--name', 'here']) == 0
    assert main(['score', str(curriculum), '--name', 'there', '--ray', 'local']) == 0
    assert 'Ray: ' in capsys.readouterr().err
    files = sorted(own_streams.rglob('here/*.npy'))
    assert files
    for file in files:
        assert (file.parent.parent / 'there' / file.name).read_bytes() == file.read_bytes()


def test_losses_of_another_model_are_not_mixed_in(curriculum: Path, own_streams: Path, capsys: Any):
    assert main(['score', str(curriculum)]) == 0
    about = losses_folder(own_streams / SKILLS[0] / 'train', 'initial') / 'about.json'
    first = json.loads(about.read_text())['weights']
    assert main(['score', str(curriculum), 'seed=4']) == 2
    assert 'of another model: pass another --name, or --overwrite' in capsys.readouterr().err
    assert json.loads(about.read_text())['weights'] == first
    assert main(['score', str(curriculum), 'seed=4', '--overwrite']) == 0
    assert json.loads(about.read_text())['weights'] != first


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--name', '../x'], '`--name` must be letters, digits, - and _'),
        (['--task', '2/2'], '`--task` must be i/n'),
        (['--overwrite', '--task', '0/2'], '`--overwrite` would throw away the work of other tasks'),
    ],
)
def test_bad_arguments_are_one_line(curriculum: Path, capsys: Any, arguments: list[str], message: str):
    assert main(['score', str(curriculum), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_a_run_folder_is_its_newest_checkpoint(curriculum: Path, own_streams: Path, run_folder: Path):
    stratified = ['algorithms.data_mixing={policy: stratified}', 'max_duration=1ep']
    assert main(['train', str(curriculum), *stratified]) == 0
    for name, place in (('folder', run_folder), ('file', run_folder / 'checkpoints' / 'latest-rank0.pt')):
        assert main(['score', str(curriculum), '--name', name, f'load_path={place}']) == 0
    assert main(['score', str(curriculum), '--name', 'scratch']) == 0
    for skill in SKILLS:
        folder, file, scratch = (
            stored(own_streams, skill, name)[1] for name in ('folder', 'file', 'scratch')
        )
        assert (folder == file).all()
        assert (folder != scratch).any()
