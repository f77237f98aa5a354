"""llm-foundry's names, called as llm-foundry calls them; and, where it is installed, by llm-foundry itself."""

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer import Evaluator, Trainer
from omegaconf import OmegaConf
from transformers import AutoTokenizer, LlamaConfig

from skillit_stream import InputError, SkillIt, SkillsGraph
from skillit_stream.audit.stream_index import read_stream_index
from skillit_stream.formats.sample_losses import losses_folder, save_losses
from skillit_stream.training.foundry import FoundryDataMixing, build_skill_streams
from skillit_stream.training.whole_rounds import dataset_of
from tests.support.paths import ROOT
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import (
    LLAMA,
    LOSS_METRIC,
    SKILLS,
    STEPS,
    TRAIN_SAMPLES,
    VOCABULARY,
    fit,
    tiny_dataset,
    tiny_trainer,
)

ROUND, BATCH = 24, 4


@pytest.fixture
def yaml(streams: Path, run_folder: Path) -> dict[str, Any]:
    """The YAML of the documentation, made small and without variables."""
    text = (
        (ROOT / 'docs' / 'llm-foundry.md').read_text(encoding='utf-8').split('```yaml\n')[1].split('```')[0]
    )
    loaded = OmegaConf.create(text)
    small = ['max_duration=3ep', 'device_eval_batch_size=7', f'global_train_batch_size={BATCH}']
    small += [f'device_train_microbatch_size={BATCH}', f'variables.streams={streams}', 'progress_bar=false']
    small += [
        f'train_loader.round_size={ROUND}',
        f'algorithms.data_mixing.log_path={run_folder}/mixture.jsonl',
    ]
    merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(small))
    found = OmegaConf.to_container(merged, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.fixture
def fitted(streams: Path, run_folder: Path, yaml: dict[str, Any]) -> Callable[..., Trainer]:
    """Put a Trainer together as llm-foundry does from the YAML, in the same order, and fit."""

    def run(**options: Any) -> Trainer:
        tokenizer = AutoTokenizer.from_pretrained(yaml['tokenizer']['name'])
        algorithm = FoundryDataMixing(**yaml['algorithms']['data_mixing'])

        def loader(keys: dict[str, Any]) -> Any:
            given = {key: value for key, value in keys.items() if key not in ('name', 'label')}
            size = BATCH if 'label' not in keys else yaml['device_eval_batch_size']
            return build_skill_streams(**given, tokenizer=tokenizer, device_batch_size=size)

        evaluators = [
            Evaluator(label=f'eval/{keys["label"]}', dataloader=loader(keys), metric_names=[LOSS_METRIC])
            for keys in yaml['eval_loaders']
        ]
        options = {'max_duration': yaml['max_duration'], **options}
        train = loader({**yaml['train_loader'], 'dataset': {'shuffle_seed': 11}})
        trainer = tiny_trainer(
            streams,
            SkillIt(SkillsGraph.identity(SKILLS)),
            run_folder,
            dataset=train.dataloader.dataset,
            evaluators=evaluators,
            **{**options, 'algorithms': [algorithm], 'train_dataloader': train},
        )
        fit(trainer, evaluate_first=options.get('load_path') is None)
        return trainer

    return run


def test_the_entry_points_name_what_there_is():
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    points = re.findall(r'\[project\.entry-points\.llmfoundry_(\w+)\]\n(\w+) = "([\w.]+):(\w+)"', text)
    assert [point[:2] for point in points] == [
        ('algorithms', 'data_mixing'),
        ('dataloaders', 'skill_streams'),
    ]
    for _, _, module, name in points:
        assert callable(getattr(importlib.import_module(module), name))


def test_the_documented_yaml_mixes_as_two_objects_in_a_script_do(
    streams: Path, run_folder: Path, tmp_path: Path, fitted: Callable[..., Trainer], release_datasets: Any
):
    fitted()
    release_datasets()
    script = tmp_path / 'script'
    policy = SkillIt(SkillsGraph.load(streams / 'graph.json'), tilt=2, window=3)
    fit(tiny_trainer(streams, policy, script, dataset=tiny_dataset(streams)), evaluate_first=True)
    assert drawn_samples(run_folder) == drawn_samples(script)
    assert without_clocks(mixture_lines(run_folder)) == without_clocks(mixture_lines(script))
    assert [line['round'] for line in rounds_of(run_folder)] == [0, 1, 2]
    assert len({tuple(line['proportions'].values()) for line in rounds_of(run_folder)}) == 3


def test_a_stopped_run_goes_on(
    run_folder: Path, tmp_path: Path, fitted: Callable[..., Trainer], release_datasets: Any
):
    folder = tmp_path / 'checkpoints'
    fitted(max_duration='9ba', save_folder=str(folder), save_interval='3ba')
    release_datasets()
    stopped = drawn_samples(run_folder)
    fitted(load_path=str(folder / 'latest-rank0.pt'))
    samples, lines = drawn_samples(run_folder), without_clocks(mixture_lines(run_folder))
    assert list(samples) == list(range(3 * STEPS))
    assert {step: samples[step] for step in stopped} == stopped
    release_datasets()
    for path in (*run_folder.glob('samples/*'), run_folder / 'mixture.jsonl'):
        path.unlink()
    fitted()
    assert drawn_samples(run_folder) == samples
    assert without_clocks(mixture_lines(run_folder)) == lines


def test_a_policy_knows_the_length_of_the_run(yaml: dict[str, Any], fitted: Callable[..., Trainer]):
    shares = [dict.fromkeys(SKILLS, 0.0) | {skill: 1.0} for skill in SKILLS]
    yaml['algorithms']['data_mixing'] = {'policy': 'schedule', 'mixtures': shares}
    trainer = fitted(max_duration=f'{3 * STEPS}ba')
    assert dataset_of(trainer.state).samples_seen == dict.fromkeys(SKILLS, ROUND)


def test_options_that_do_not_fit_are_one_line(streams: Path):
    def refused(**options: Any) -> str:
        with pytest.raises(InputError) as caught:
            build_skill_streams(
                **{'streams': str(streams), 'tokenizer': None, 'device_batch_size': 4, **options}
            )
        assert '\n' not in str(caught.value)
        return str(caught.value)

    assert 'round_size' in refused()
    assert 'roundsize' in refused(round_size=24, roundsize=24)
    assert '`match_passes` needs the length of the run' in refused(round_size=24, match_passes=10**6)
    assert "no eval split of 'digit_9': did you mean" in refused(skill='digit_9')
    assert '`round_size` has no effect on a loader of one eval skill' in refused(
        skill='digit_0', round_size=24
    )
    small = [0] * (VOCABULARY - 1)
    assert f'knows {VOCABULARY - 1} tokens, but' in refused(tokenizer=small)


def test_llm_foundry_trains_the_documented_yaml(
    streams: Path, tmp_path: Path, run_folder: Path, yaml: dict[str, Any]
):
    reason = 'llm-foundry is not installed (or lacks what it imports)'
    train = pytest.importorskip('llmfoundry.command_utils.train', reason=reason, exc_type=ImportError).train
    registry = importlib.import_module('llmfoundry.registry')
    if 'data_mixing' not in registry.algorithms.get_all():
        pytest.skip('this package is not installed with its entry points beside llm-foundry')
    assert registry.algorithms.get('data_mixing') is FoundryDataMixing
    LlamaConfig(**{**LLAMA, 'vocab_size': VOCABULARY}).save_pretrained(tmp_path / 'model')
    yaml['model']['pretrained_model_name_or_path'] = str(tmp_path / 'model')
    del yaml['variables']
    trainer = train(OmegaConf.create(yaml))
    trainer.close()
    lines = mixture_lines(run_folder)
    assert [line['round'] for line in lines] == [-1, 0, 1, 2]
    assert all(set(line['losses']) == set(SKILLS) for line in lines)
    assert len({tuple(line['proportions'].values()) for line in lines[1:]}) == 3


def test_a_curriculum_over_samples_is_offered_as_the_other_policies_are(
    streams: Path, run_folder: Path, tmp_path: Path, yaml: dict[str, Any], fitted: Callable[..., Trainer]
):
    own = tmp_path / 'own'
    shutil.copytree(streams, own)
    for skill in SKILLS:
        index = read_stream_index(own / skill / 'train')
        # The later a sample, the easier.
        losses = -np.arange(index.samples, dtype=np.float32)
        folder = losses_folder(own / skill / 'train', 'initial')
        save_losses(folder, losses, index.sizes, stream=index.digest(), about={})
    for section in (yaml['train_loader'], *yaml['eval_loaders']):
        section['streams'] = str(own)
    mixing = {'policy': 'sample_curriculum', 'start': 0.05, 'full_at': 1.0}
    yaml['algorithms']['data_mixing'] = {**mixing, 'log_path': str(run_folder / 'mixture.jsonl')}
    fitted()
    drawn, samples = drawn_samples(run_folder), TRAIN_SAMPLES
    first = [one % samples for step in range(ROUND // BATCH) for one in drawn[step]]
    assert min(first) >= samples * (1 - (0.05 + 0.95 / 3)) - 1
    state = rounds_of(run_folder)[0]['state']
    assert set(state['streams']['digit_0']['curriculum']) >= {'losses', 'begins', 'keys'}
