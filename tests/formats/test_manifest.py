"""skills.json: what is saved is what is loaded; anything else is refused in one line."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.formats.manifest import ConversionInfo, Manifest, SkillInfo, SourceInfo, SplitInfo


def split(samples: int) -> SplitInfo:
    return SplitInfo(
        samples=samples,
        tokens=samples * 8,
        target_tokens=samples * 8,
        bytes=samples * 30,
        documents=3,
        index_hash='sha256:00',
    )


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        tokenizer_name='gpt2',
        tokenizer_hash='sha256:11',
        vocab_size=50257,
        seq_len=8,
        dtype='uint16',
        columns={'tokens': 'ndarray:uint16:8'},
        skills={
            'arxiv': SkillInfo(
                splits={'train': split(9), 'eval': split(1)},
                sources=(SourceInfo(file='arxiv/a.jsonl', bytes=12, hash='blake2b:22'),),
                dropped={'tail_tokens': 5},
            )
        },
        dropped={'broken_json': 1},
        corpus={'name': 'redpajama'},
    )


def test_what_is_saved_is_loaded(tmp_path: Path, manifest: Manifest):
    manifest.save(str(tmp_path))
    assert Manifest.load(str(tmp_path)) == manifest
    assert os.listdir(tmp_path) == ['skills.json']


def test_the_file_has_the_documented_form(manifest: Manifest):
    assert manifest.to_json() == {
        'version': 1,
        'tokenizer': {'name': 'gpt2', 'hash': 'sha256:11'},
        'vocab_size': 50257,
        'seq_len': 8,
        'dtype': 'uint16',
        'columns': {'tokens': 'ndarray:uint16:8'},
        'skills': {
            'arxiv': {
                'splits': {
                    name: {
                        key: value for key, value in vars(split(samples)).items() if key != 'without_target'
                    }
                    for name, samples in (('train', 9), ('eval', 1))
                },
                'sources': [{'file': 'arxiv/a.jsonl', 'bytes': 12, 'hash': 'blake2b:22'}],
                'dropped': {'tail_tokens': 5},
            }
        },
        'dropped': {'broken_json': 1},
        'corpus': {'name': 'redpajama'},
    }


def test_samples_without_a_target_are_told_where_there_is_a_mask(tmp_path: Path, manifest: Manifest):
    train = replace(manifest.skills['arxiv'].splits['train'], without_target=3)
    skill = replace(manifest.skills['arxiv'], splits={'train': train})
    masked = replace(manifest, skills={'arxiv': skill})
    masked.save(str(tmp_path))
    assert Manifest.load(str(tmp_path)) == masked
    assert masked.to_json()['skills']['arxiv']['splits']['train']['without_target'] == 3


def test_keys_of_a_later_release_are_passed_over(tmp_path: Path, manifest: Manifest):
    data = manifest.to_json()
    data['colour'] = 'green'
    data['skills']['arxiv']['splits']['train']['colour'] = 'green'
    (tmp_path / 'skills.json').write_text(json.dumps(data))
    assert Manifest.load(str(tmp_path)) == manifest


def test_a_manifest_of_an_earlier_release_lacks_the_tokens_of_its_text(tmp_path: Path, manifest: Manifest):
    data = manifest.to_json()
    for info in data['skills']['arxiv']['splits'].values():
        info.pop('text_tokens')
    (tmp_path / 'skills.json').write_text(json.dumps(data))
    assert Manifest.load(str(tmp_path)) == manifest
    data['skills']['arxiv']['splits']['eval']['text_tokens'] = 'many'
    (tmp_path / 'skills.json').write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"eval\.text_tokens' must be a whole number, but got: 'many'"):
        Manifest.load(str(tmp_path))


def test_a_history_is_version_2_and_loaded_again(tmp_path: Path, manifest: Manifest):
    counts = {'arxiv': {'train': {'documents': 3, 'samples': 9}}}
    file = SourceInfo(file='b.jsonl', bytes=5, hash='blake2b:33')
    one = ConversionInfo(
        date='2026-11-27T08:00:00+00:00',
        corpus={'name': 'jsonl'},
        arguments={'paths': ['b.jsonl']},
        files=(file,),
        counts=counts,
    )
    grown = replace(manifest, history=(one,))
    grown.save(str(tmp_path))
    assert json.loads((tmp_path / 'skills.json').read_text())['version'] == 2
    assert Manifest.load(str(tmp_path)) == grown


def test_a_missing_manifest_is_refused(tmp_path: Path):
    with pytest.raises(
        InputError, match=r'skills\.json: cannot be read \(No such file.*made by `skillit convert`'
    ):
        Manifest.load(str(tmp_path))


def test_another_version_is_refused(tmp_path: Path, manifest: Manifest):
    (tmp_path / 'skills.json').write_text(json.dumps(manifest.to_json() | {'version': 3}))
    with pytest.raises(
        InputError, match=r'skills\.json: version 3, but this release reads versions 1 to 2; convert'
    ):
        Manifest.load(str(tmp_path))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"version": 1', 'not JSON'),
        ('[]', 'not a JSON object'),
        ('\xff', 'not JSON'),
        ('{"version": 1}', "'tokenizer.name' is missing"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / 'skills.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(
        InputError, match=rf'skills\.json: broken manifest \({message}.*convert the corpus again'
    ):
        Manifest.load(str(tmp_path))


@pytest.mark.parametrize('value', ['9', None, 1.5, True])
def test_a_mistyped_count_is_refused(tmp_path: Path, manifest: Manifest, value: object):
    data = manifest.to_json()
    data['skills']['arxiv']['splits']['eval']['samples'] = value
    (tmp_path / 'skills.json').write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"arxiv\.splits\.eval\.samples' must be a whole number, but got: "):
        Manifest.load(str(tmp_path))


def test_a_failed_save_leaves_nothing(tmp_path: Path, manifest: Manifest):
    (tmp_path / 'skills.json').mkdir()
    with pytest.raises(OSError, match=r'skills\.json'):
        manifest.save(str(tmp_path))
    assert os.listdir(tmp_path) == ['skills.json']
