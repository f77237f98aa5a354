"""What does not fit together is said at the start of the fit, in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from skillit_stream import DataMixing, InputError, SkillIt, SkillsGraph, StaticMixture
from skillit_stream.mixture import MixturePolicy
from tests.support.training_runs import SKILLS, fit, tiny_dataset, tiny_evaluators, tiny_trainer

GRAPH = SkillsGraph.identity(SKILLS)


def refusal(streams: Path, run: Path, policy: MixturePolicy, **options: Any) -> str:
    """The one line with which the fit of a hand-made trainer is refused."""
    trainer = tiny_trainer(streams, policy, run, **{'max_duration': '1ep', **options})
    with pytest.raises(InputError) as caught:
        fit(trainer)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_a_missing_evaluator_is_named(streams: Path, run_folder: Path):
    evaluators = tiny_evaluators(streams, ['digit_0', 'digit_2'])
    message = refusal(streams, run_folder, SkillIt(GRAPH), evaluators=evaluators)
    assert 'names skill digit_1, but there is no evaluator of that name' in message
    assert 'there are: digit_0, digit_2.' in message
    assert not run_folder.exists()


def test_no_evaluators_at_all_are_named(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, SkillIt(GRAPH), evaluators=[])
    assert 'no evaluator of that name; there are: none.' in message


def test_a_missing_stream_is_named(streams: Path, run_folder: Path):
    dataset = tiny_dataset(streams, ['digit_0', 'digit_1'])
    message = refusal(streams, run_folder, SkillIt(GRAPH), dataset=dataset)
    assert 'names skill digit_2, but there is no stream of that name; there are: digit_0, digit_1.' in message


def test_a_stream_that_the_policy_does_not_name_is_named(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, StaticMixture({'digit_0': 0.5, 'digit_1': 0.5}))
    assert 'There is a stream digit_2, but the policy does not name it' in message


def test_rounds_that_the_trainer_would_cut_short_are_refused(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, SkillIt(GRAPH), train_subset_num_batches=4)
    assert '`train_subset_num_batches` must be left out, for a round is 6 steps, but got: 4' in message
    assert 'round_size=16' in message
    assert not run_folder.exists()


def test_a_loader_of_other_batches_than_the_datasets_is_refused(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, SkillIt(GRAPH), dataset=tiny_dataset(streams, batch_size=6))
    assert '`batch_size` of the DataLoader must be that of the dataset, 6, but got: 4.' in message


def test_two_data_mixings_in_a_trainer_are_refused(streams: Path, run_folder: Path):
    algorithms = [DataMixing(SkillIt(GRAPH)), DataMixing(StaticMixture.stratified(SKILLS))]
    message = refusal(streams, run_folder, SkillIt(GRAPH), algorithms=algorithms)
    assert message.startswith('A Trainer must have one DataMixing, but got: DataMixing, DataMixing')


class Rows(torch.utils.data.Dataset):
    """A dataset without streams."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {'tokens': torch.full((17,), index), 'sample_id': torch.tensor(index)}


def test_another_dataset_is_refused_by_its_name(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, SkillIt(GRAPH), dataset=Rows())
    assert 'needs a train_dataloader over a SkillStreamingDataset, but got: Rows.' in message


@pytest.mark.parametrize('interval', ['4ba', '2ep'])
def test_evaluations_that_miss_the_end_of_a_round_are_refused(streams: Path, run_folder: Path, interval: str):
    evaluators = tiny_evaluators(streams, eval_interval=interval)
    message = refusal(streams, run_folder, SkillIt(GRAPH), evaluators=evaluators, max_duration='3ep')
    assert (
        "none was measured at the end of round 0: evaluate every round (in Composer: eval_interval='1ep')"
        in message
    )


def test_a_policy_without_losses_does_not_mind_when_evaluators_run(streams: Path, run_folder: Path):
    evaluators = tiny_evaluators(streams, eval_interval='4ba')
    policy = StaticMixture.stratified(SKILLS)
    fit(tiny_trainer(streams, policy, run_folder, evaluators=evaluators, max_duration='2ep'))


def test_losses_before_training_are_asked_for(streams: Path, run_folder: Path):
    message = refusal(streams, run_folder, SkillIt(GRAPH, lag=1))
    assert 'before training: call start(losses) (in Composer: trainer.eval() first)' in message


def test_a_metric_that_is_not_there_is_named_with_those_that_are(streams: Path, run_folder: Path):
    algorithms = [DataMixing(SkillIt(GRAPH), metric='Loss')]
    message = refusal(streams, run_folder, SkillIt(GRAPH), algorithms=algorithms)
    assert message.startswith("Evaluator digit_0 has no metric 'Loss' (it has: LanguageCrossEntropy)")


def test_a_state_says_what_it_is_of_as_those_of_composer_do():
    mixing = DataMixing(SkillIt(GRAPH), warn_passes=2.0)
    said = "DataMixing(policy='skill_it', metric='LanguageCrossEntropy', warn_passes=2.0)"
    assert mixing.state_dict() == {'repr': said}
    mixing.load_state_dict(mixing.state_dict())  # of before the first fit: there is nothing to go on with


def test_a_state_of_another_version_is_refused():
    state = DataMixing(SkillIt(GRAPH)).state_dict()
    with pytest.raises(InputError, match=r'version 2, but got: 1'):
        DataMixing(SkillIt(GRAPH)).load_state_dict({**state, 'version': 1})


def test_a_stream_that_runs_out_is_named_with_its_round(streams: Path, run_folder: Path):
    dataset = tiny_dataset(streams, on_exhausted='error', round_size=400)
    message = refusal(
        streams, run_folder, StaticMixture.stratified(SKILLS), dataset=dataset, max_duration='5ep'
    )
    assert message.startswith(
        'Skill digit_0 runs out in round 2: it has 33 samples left and the round draws 133.'
    )


@pytest.mark.parametrize('stop', ['1ep', '8ba'])
def test_steps_that_are_counted_from_0_again_are_refused(streams: Path, run_folder: Path, stop: str):
    trainer = tiny_trainer(streams, SkillIt(GRAPH), run_folder, max_duration=stop)
    try:
        trainer.fit()
        steps = int(trainer.state.timestamp.batch)
        written = (run_folder / 'mixture.jsonl').read_text()
        with pytest.raises(
            InputError, match=rf'`reset_time`: .* from 0 again, after {steps}: pass fit\(duration'
        ):
            trainer.fit(duration='1ep', reset_time=True)
        assert (run_folder / 'mixture.jsonl').read_text() == written
    finally:
        trainer.close()


def test_steps_of_a_checkpoint_that_are_counted_from_0_again_are_refused(streams: Path, run_folder: Path):
    place: dict[str, Any] = {'save_folder': str(run_folder / 'checkpoints'), 'save_interval': '1ep'}
    fit(tiny_trainer(streams, SkillIt(GRAPH), run_folder, max_duration='1ep', **place))
    latest = str(run_folder / 'checkpoints' / 'latest-rank0.pt')
    trainer = tiny_trainer(streams, SkillIt(GRAPH), run_folder, load_path=latest)
    try:
        with pytest.raises(InputError, match=r'`reset_time`: .* after 6'):
            trainer.fit(reset_time=True)
    finally:
        trainer.close()


def test_another_policy_in_a_checkpoint_is_refused_or_begins_anew(streams: Path, run_folder: Path):
    place: dict[str, Any] = {'save_folder': str(run_folder / 'checkpoints'), 'save_interval': '1ep'}
    even = StaticMixture.stratified(SKILLS)
    fit(tiny_trainer(streams, even, run_folder, max_duration='1ep', **place))
    latest = str(run_folder / 'checkpoints' / 'latest-rank0.pt')
    message = refusal(streams, run_folder, SkillIt(GRAPH), max_duration='2ep', load_path=latest)
    assert "policy is 'static' in the checkpoint, 'skill_it' in this run" in message
    tilted = SkillIt(SkillsGraph(SKILLS, SKILLS, [[1, 0, 0], [0, 0, 0], [0, 0, 0]]), eta=2.0)
    dataset = tiny_dataset(streams)
    algorithms = [DataMixing(tilted, log_path=run_folder / 'mixture.jsonl', begin_anew=True)]
    fit(
        tiny_trainer(
            streams,
            tilted,
            run_folder,
            dataset=dataset,
            algorithms=algorithms,
            max_duration='2ep',
            load_path=latest,
        )
    )
    assert dataset.samples_seen['digit_0'] == 8 + round(24 * 0.7869)
