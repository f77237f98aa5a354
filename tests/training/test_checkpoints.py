"""What a run starts from: the newest complete checkpoint, the same on all nodes, or a line that says why not."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from composer.utils import create_symlink_file, dist

from skillit_stream import InputError
from skillit_stream.training.checkpoints import LATEST, fingerprint, loading_arguments, newest_checkpoint
from skillit_stream.training.config import TrainConfig
from tests.support.run_folders import drawn_samples, mixture_lines, without_clocks
from tests.support.training_runs import STEPS

if TYPE_CHECKING:
    from tests.support.object_store import Store

Trained = Callable[..., None]


def config(**keys: Any) -> TrainConfig:
    return TrainConfig(streams='streams', max_duration='1ep', global_train_batch_size=4, **keys)


def save(path: Path, step: int) -> None:
    """A checkpoint as far as files are concerned: of one size, whatever is in it."""
    with path.open('wb') as file:
        torch.save({'step': torch.tensor(step)}, file)


@pytest.fixture
def checkpoints(run_folder: Path) -> Path:
    """Checkpoints of steps 4, 8 and 12, with Composer's link to the last of them."""
    folder = run_folder / 'checkpoints'
    folder.mkdir(parents=True)
    for name, step in (('ep0-ba4', 4), ('ep1-ba8', 8), ('ep1-ba12', 12)):
        save(folder / f'{name}-rank0.pt', step)
    (folder / LATEST).symlink_to('ep1-ba12-rank0.pt')
    return folder


def test_there_may_be_no_checkpoint_yet(run_folder: Path):
    assert newest_checkpoint(str(run_folder / 'checkpoints')) is None
    arguments = loading_arguments(config(autoresume=True), str(run_folder))
    assert arguments == {
        'load_path': None,
        'load_weights_only': False,
        'load_ignore_keys': None,
        # The first checkpoint may have been half written.
        'save_overwrite': True,
        'autoresume': False,
    }


def test_composers_link_says_which_is_the_newest(checkpoints: Path):
    (checkpoints / LATEST).unlink()
    (checkpoints / LATEST).symlink_to('ep1-ba8-rank0.pt')
    assert newest_checkpoint(str(checkpoints)) == str(checkpoints / 'ep1-ba8-rank0.pt')


@pytest.mark.parametrize('link', ['missing', 'dangling'])
def test_without_the_link_it_is_the_last_complete_one(checkpoints: Path, link: str):
    (checkpoints / LATEST).unlink()
    if link == 'dangling':
        (checkpoints / LATEST).symlink_to('ep0-ba2-rank0.pt')
    whole = (checkpoints / 'ep1-ba12-rank0.pt').read_bytes()
    (checkpoints / 'ep1-ba16-rank0.pt').write_bytes(whole[: len(whole) // 2])
    (checkpoints / 'other-rank0.pt').write_bytes(whole)
    assert newest_checkpoint(str(checkpoints)) == str(checkpoints / 'ep1-ba12-rank0.pt')


def test_a_checkpoint_of_the_run_goes_before_the_one_it_was_begun_with(checkpoints: Path, tmp_path: Path):
    ignored = ['state/optimizers']
    begun_with = config(
        load_path=str(tmp_path / 'gone.pt'), load_weights_only=True, load_ignore_keys=ignored, autoresume=True
    )
    arguments = loading_arguments(begun_with, str(checkpoints))
    assert arguments['load_path'] == str(checkpoints / 'ep1-ba12-rank0.pt')
    assert arguments['load_weights_only'] is False
    assert arguments['load_ignore_keys'] is None
    with pytest.raises(InputError, match=r'`load_path`: there is no checkpoint at .*gone\.pt'):
        loading_arguments(begun_with, str(tmp_path / 'fresh'))


def test_sharded_checkpoints_are_left_to_composer(checkpoints: Path):
    sharded = config(autoresume=True, fsdp_config={'state_dict_type': 'sharded'})
    arguments = loading_arguments(sharded, str(checkpoints))
    assert arguments['autoresume'] is True
    assert arguments['load_path'] is None


@pytest.mark.parametrize('there', [None, 8], ids=['nothing', 'another one of the same size'])
def test_a_node_with_a_disk_of_its_own_is_refused(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int | None
):
    # What the ranks of the other node would say of their file.
    theirs = None
    if there:
        save(tmp_path / 'there.pt', there)
        assert (tmp_path / 'there.pt').stat().st_size == (checkpoints / LATEST).stat().st_size
        theirs = fingerprint(tmp_path / 'there.pt')
    monkeypatch.setattr(dist, 'all_gather_object', lambda mine: [mine, mine, (1, theirs), (1, theirs)])
    with pytest.raises(InputError, match=r'not what node 1 has there: put `save_folder` where all nodes'):
        loading_arguments(config(autoresume=True), str(checkpoints))


@pytest.mark.parametrize('found', ['link', 'no link'])
def test_a_run_killed_while_it_wrote_a_checkpoint_goes_on(
    trained: Trained, run_folder: Path, tmp_path: Path, found: str
):
    whole = tmp_path / 'whole'
    trained('max_duration=2ep', f'save_folder={whole}', f'callbacks.sample_log.folder={whole / "samples"}')
    trained('max_duration=8ba', 'save_interval=4ba')
    folder = run_folder / 'checkpoints'
    last = (folder / 'ep1-ba8-rank0.pt').read_bytes()
    (folder / 'ep1-ba12-rank0.pt').write_bytes(last[: len(last) // 2])
    if found == 'no link':
        (folder / LATEST).unlink()
    trained('max_duration=2ep', 'autoresume=true', 'save_interval=4ba')
    # It went on, and not from the start.
    steps = (run_folder / 'samples' / 'samples-rank0.jsonl').read_text().count('\n')
    assert steps == 2 * STEPS
    assert drawn_samples(run_folder) == drawn_samples(whole)
    assert without_clocks(mixture_lines(run_folder)) == without_clocks(mixture_lines(whole))


def test_the_newest_checkpoint_of_an_object_store_is_found(checkpoints: Path, tmp_path: Path, store: 'Store'):
    bucket = store.upload(checkpoints)
    folder = f's3://{bucket}/run/checkpoints'
    assert newest_checkpoint(folder) is None
    # As Composer leaves it: a small file that names the object.
    link = tmp_path / 'link.symlink'
    create_symlink_file('run/checkpoints/ep1-ba8-rank0.pt', link)
    store.client().upload_file(str(link), bucket, f'run/checkpoints/{LATEST}.symlink')
    assert newest_checkpoint(folder) == f's3://{bucket}/run/checkpoints/ep1-ba8-rank0.pt'
    arguments = loading_arguments(config(autoresume=True), folder)
    assert arguments['load_path'] == f's3://{bucket}/run/checkpoints/ep1-ba8-rank0.pt'


def test_an_object_store_that_cannot_be_read_is_one_line():
    with pytest.raises(InputError, match=r'`autoresume`: no checkpoint can be looked for in ftp://there'):
        loading_arguments(config(autoresume=True), 'ftp://there')
