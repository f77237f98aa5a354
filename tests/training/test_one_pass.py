"""A run whose skills are evaluated in one pass: mixtures, mixture.jsonl, metrics and the cost of evaluating."""

import json
import math
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from composer import Trainer
from composer.loggers import InMemoryLogger
from streaming import Stream

from skillit_stream import DataMixing, InputError, SkillIt, SkillsGraph
from skillit_stream.cli import main
from skillit_stream.formats.manifest import Manifest
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixing import stopwatch
from skillit_stream.training.builders import build_material
from skillit_stream.training.config import load_config
from skillit_stream.training.evaluation import skill_evaluator
from skillit_stream.training.run_policy import chosen_skills
from skillit_stream.training.skill_metrics import MeanSkillLoss
from tests.support.by_hand import mean_loss
from tests.support.run_folders import mixture_lines, rounds_of
from tests.support.streams_reading import samples_in
from tests.support.training_runs import (
    BATCH,
    EVAL_BATCH,
    SKILLS,
    fit,
    settings,
    tiny_model,
    tiny_trainer,
    write_yaml,
)

FIGURES = ('losses', 'accuracy', 'exact_match')


def skill_it(streams: Path) -> SkillIt:
    """Skill-It on the graph that lies beside the streams."""
    return SkillIt(SkillsGraph.load(streams / 'graph.json'))


def one_pass_trainer(streams: Path, run: Path, **options: Any) -> Trainer:
    """`tiny_trainer` with one Evaluator of all skills, as a script of one's own makes it."""
    evals = EvalStreams({skill: Stream(local=str(streams / skill), split='eval') for skill in SKILLS})
    evaluator = skill_evaluator(
        evals, batch_size=EVAL_BATCH, eval_interval=options.pop('eval_interval', '1ep')
    )
    model = tiny_model(streams)
    model.val_metrics = {MeanSkillLoss.__name__: MeanSkillLoss(evals.skills, accuracy=True)}
    return tiny_trainer(
        streams, skill_it(streams), run, **{'evaluators': [evaluator], 'model': model, **options}
    )


def test_mixtures_are_those_of_evaluators_apart(streams: Path, run_folder: Path):
    fit(one_pass_trainer(streams, run_folder / 'one'), evaluate_first=True)
    fit(tiny_trainer(streams, skill_it(streams), run_folder / 'apart'), evaluate_first=True)
    lines, others = mixture_lines(run_folder / 'one'), mixture_lines(run_folder / 'apart')
    assert [line['round'] for line in lines] == [-1, 0, 1, 2]
    for line, other in zip(lines, others, strict=True):
        assert line['losses'] == pytest.approx(other['losses'], rel=1e-5)
        assert line['proportions'] == pytest.approx(other['proportions'], rel=1e-4)
        assert set(line) - set(other) == {'accuracy', 'exact_match'}
    assert lines[1]['proportions'] != lines[2]['proportions']


def test_the_loggers_get_what_is_written_down_by_skill_and_the_mean(streams: Path, run_folder: Path):
    logger = InMemoryLogger()
    fit(one_pass_trainer(streams, run_folder, loggers=[logger]), evaluate_first=True)
    logged = {name: [float(value) for _, value in series] for name, series in logger.data.items()}
    lines = mixture_lines(run_folder)
    names = ('LanguageCrossEntropy', 'AnswerAccuracy', 'AnswerExactMatch')
    for skill in SKILLS:
        for key, name in zip(FIGURES, names, strict=True):
            assert logged[f'metrics/{skill}/{name}'] == [line[key][skill] for line in lines]
    assert logged['metrics/all/MeanSkillLoss'] == pytest.approx(
        [math.fsum(line['losses'].values()) / len(SKILLS) for line in lines], rel=1e-12
    )


def test_figures_are_kept_in_the_state_with_their_losses(streams: Path, run_folder: Path):
    # The last evaluation inside a round counts for its end: a checkpoint between the two must hold it.
    whole = one_pass_trainer(streams, run_folder / 'whole', eval_interval='2ba', max_duration='1ep')
    fit(whole)
    options = {'save_folder': str(run_folder / 'checkpoints'), 'save_interval': '6ba', 'eval_interval': '2ba'}
    fit(one_pass_trainer(streams, run_folder / 'first', max_duration='6ba', **options))
    mixing = DataMixing(skill_it(streams))
    trainer = one_pass_trainer(
        streams,
        run_folder / 'resumed',
        algorithms=[mixing],
        load_path=str(run_folder / 'checkpoints' / 'ep0-ba6-rank0.pt'),
    )
    trainer.close()
    [line] = rounds_of(run_folder / 'whole')
    state = mixing.state_dict()
    assert state['losses'] == {skill: [6, loss] for skill, loss in line['losses'].items()}
    assert state['figures'] == {name: line[name] for name in FIGURES[1:]}
    assert [one['step'] for one in line['within']] == [2, 4]
    assert state['within'] == line['within']
    assert set(line['within'][0]) == {'step', 'losses', *FIGURES[1:]}
    # As it was before there were figures.
    state.pop('figures')
    mixing.load_state_dict(state)
    assert mixing.state_dict()['figures'] == {}


def test_the_seconds_of_evaluating_and_their_share_are_told(
    streams: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # A clock that goes on by a second whenever it is looked at.
    clock = count()
    monkeypatch.setattr(stopwatch, 'monotonic', lambda: float(next(clock)))
    logger = InMemoryLogger()
    fit(
        one_pass_trainer(streams, run_folder, loggers=[logger], eval_interval='2ba'),
        evaluate_first=True,
    )
    before, *lines = mixture_lines(run_folder)
    assert (before['eval_seconds'], before['seconds']) == (1, 0)
    assert [line['eval_seconds'] for line in lines] == [3] * 3
    # Two looks a batch and an evaluation, one where the data end and one where the round does.
    assert [line['seconds'] for line in lines] == [2 * 6 + 2 * 3 + 1 + 1] * 3
    shares = [float(value) for _, value in logger.data['mixture/eval_share']]
    assert shares == [3 / 20] * 3


def test_a_run_resumed_within_a_round_tells_the_seconds_since(
    streams: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = run_folder / 'checkpoints'
    options = {'save_folder': str(folder), 'save_interval': '2ba'}
    fit(one_pass_trainer(streams, run_folder / 'first', max_duration='4ba', **options))
    clock = count()
    monkeypatch.setattr(stopwatch, 'monotonic', lambda: float(next(clock)))
    resumed = str(folder / 'ep0-ba4-rank0.pt')
    fit(one_pass_trainer(streams, run_folder / 'second', max_duration='1ep', load_path=resumed))
    [line] = rounds_of(run_folder / 'second')
    # Of the 2 batches that were left, of an evaluation, and where data and round end.
    assert (line['eval_seconds'], line['seconds']) == (1, 2 * 2 + 2 + 1 + 1)


def test_a_model_that_lacks_the_metric_is_refused_at_the_start(streams: Path, run_folder: Path):
    trainer = one_pass_trainer(streams, run_folder, model=tiny_model(streams))
    with pytest.raises(
        InputError, match=r"^The model's eval metrics must hold a MeanSkillLoss of the skills digit_0"
    ):
        fit(trainer)


@pytest.mark.parametrize(
    ('keys', 'samples'),
    [
        ({}, 41),
        ({'samples_per_skill': 10}, 10),
        ({'subset_num_batches': 2}, 2 * BATCH),
        ({'batch_size': 3}, 41),
    ],
)
def test_a_yaml_evaluates_the_samples_it_says(
    streams: Path, run_folder: Path, tmp_path: Path, keys: dict[str, int], samples: int
):
    path = write_yaml(tmp_path / 'run.yaml', {**settings(streams, run_folder), 'eval_loader': keys})
    assert main(['train', str(path), 'max_duration=1ba']) == 0
    config, manifest = load_config(path), Manifest.load(str(streams))
    model = build_material(config, manifest, *chosen_skills(config, manifest)).model
    first = mixture_lines(run_folder)[0]
    assert first['round'] == -1
    for skill in SKILLS:
        expected = mean_loss(model, samples_in(streams / skill / 'eval')[:samples])
        assert first['losses'][skill] == pytest.approx(expected, rel=1e-6)
    assert sorted(first['accuracy']) == sorted(first['exact_match']) == list(SKILLS)
    # Answers alone are learned: their loss says nothing of the text's bytes.
    assert 'bits_per_byte' not in first


@pytest.mark.parametrize(
    ('overrides', 'batch', 'microbatch'),
    [
        (['device_train_microbatch_size=auto'], BATCH, BATCH),
        (['device_train_microbatch_size=2'], BATCH, 2),
        (['device_train_microbatch_size=2', 'eval_loader.batch_size=5'], 5, 5),
    ],
)
def test_an_evaluation_takes_no_more_samples_at_a_time_than_training_unless_it_is_told_to(
    streams: Path, run_folder: Path, tmp_path: Path, overrides: list[str], batch: int, microbatch: int
):
    keys = {**settings(streams, run_folder), 'eval_loader': {}}
    config, manifest = (
        load_config(write_yaml(tmp_path / 'run.yaml', keys), overrides),
        Manifest.load(str(streams)),
    )
    evaluator = build_material(config, manifest, *chosen_skills(config, manifest)).evaluator
    assert getattr(evaluator.dataloader.dataloader, 'batch_size', None) == batch
    assert evaluator.device_eval_microbatch_size == microbatch


def test_text_is_evaluated_in_bits_per_byte(
    streams: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    # Every document is 5 tokens and an EOS, and 9 bytes: two thirds of a token a byte.
    digits = [f'{number:05}' for number in range(0, 100_000, 250)]
    rows = [{'text': ' '.join(one), 'skill': 'even' if one[2] in '02468' else 'odd'} for one in digits]
    (tmp_path / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    out = tmp_path / 'text'
    options = ['--tokenizer', str(streams / 'tokenizer'), '--seq-len', '16', '--eval-fraction', '0.3']
    source = ['convert', 'jsonl', str(tmp_path / 'rows.jsonl'), '--skill-field', 'skill']
    assert main([*source, '--out', str(out), *options]) == 0, capsys.readouterr().err
    keys = settings(out, run_folder)
    keys['algorithms'] = {'data_mixing': {'policy': 'stratified'}}
    assert main(['train', str(write_yaml(tmp_path / 'run.yaml', keys)), 'max_duration=1ep']) == 0
    for line in mixture_lines(run_folder):
        assert list(line['losses']) == ['even', 'odd']
        expected = {skill: loss * 6 / (9 * math.log(2)) for skill, loss in line['losses'].items()}
        assert line['bits_per_byte'] == pytest.approx(expected, rel=1e-12)
        assert 'accuracy' not in line


def test_subsets_do_not_depend_on_the_ranks(
    streams: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def evaluated(ranks: int, *overrides: str) -> int:
        monkeypatch.setattr('composer.utils.dist.get_world_size', lambda: ranks)
        path = write_yaml(tmp_path / 'run.yaml', settings(streams, run_folder))
        config, manifest = load_config(path, overrides), Manifest.load(str(streams))
        evaluator = build_material(config, manifest, *chosen_skills(config, manifest)).evaluator
        loader: Any = evaluator.dataloader.dataloader
        return len(loader.dataset)

    whole, few = ['eval_loader.batch_size=null'], ['eval_loader.subset_num_batches=2']
    assert [evaluated(ranks, *whole) for ranks in (1, 2)] == [41 * 3] * 2
    assert [evaluated(ranks, *whole, *few) for ranks in (1, 2)] == [2 * BATCH * 3] * 2
    assert [evaluated(ranks, *few) for ranks in (1, 2)] == [2 * EVAL_BATCH * 3] * 2
