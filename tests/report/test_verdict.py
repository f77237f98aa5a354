"""The sentence at the top: it says no more than the seeds and the order of samples support."""

import json

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.report import print_summary, write_report
from skillit_stream.report.methods import group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.summary import summarise
from skillit_stream.report.verdict import Gap, compared, verdict

POLICIES = {
    'stratified': {'name': 'static', 'proportions': {'a': 0.5, 'b': 0.5}},
    'proportional': {'name': 'static', 'proportions': {'a': 0.2, 'b': 0.8}},
}


@pytest.fixture
def methods_of(make_run):
    """Methods whose runs end at given mean losses, one a seed, each run with an order of its own."""

    def make(policy=None, order=None, **ends):
        runs = []
        for name, values in ends.items():
            for seed, end in enumerate(values, start=1):
                losses = [{'a': 3.0, 'b': 3.0}, {'a': end - 0.5, 'b': end + 0.5}]
                folder = make_run(name, seed=seed, rounds=1, losses=losses)
                facts = json.loads((folder / 'run.json').read_text())
                facts['policy'] = POLICIES.get((policy or {}).get(name, name), {'name': name})
                facts['dataset']['shuffle_seed'] = f'{name} {seed}' if order is None else order
                (folder / 'run.json').write_text(json.dumps(facts))
                runs.append(folder)
        return group_runs(read_runs(runs))

    return make


def test_a_clear_difference_names_the_lowest_by_how_much_and_on_how_many_seeds(methods_of):
    text = verdict(methods_of(stratified=[6.0, 6.02, 6.01], skill_it=[5.8, 5.83, 5.82]), 'stratified')
    # Differences 0.20, 0.19, 0.19: mean 0.19333, sd 0.0057735, t(0.975, 2) = 4.30265, half width 0.014342.
    assert text == (
        'skill_it ended lowest: 0.1933 nats per token below the baseline stratified on average, lower on 3 of 3 '
        'seeds; that is above the noise of the seeds (95 % interval 0.1790 to 0.2077).'
    )


def test_a_difference_within_the_noise_is_never_lower(methods_of):
    text = verdict(methods_of(stratified=[6.0, 6.1, 5.9], skill_it=[5.9, 6.05, 5.95]), 'stratified')
    assert text.startswith(
        'skill_it and the baseline stratified cannot be told apart: their difference, 0.0333'
    )
    assert 'in favour of skill_it on 2 of 3 seeds, is within the noise of the seeds (95 % interval -' in text
    assert 'lower' not in text
    assert 'lowest' not in text


@pytest.mark.parametrize('seeds', [1, 2])
def test_fewer_than_three_seeds_have_no_lowest(methods_of, seeds, capsys):
    methods = methods_of(stratified=[6.0] * seeds, skill_it=[4.0] * seeds)
    text = verdict(methods, 'stratified')
    number = ('one seed', 'two seeds')[seeds - 1]
    assert text.startswith('skill_it ended at 4.0000 and stratified at 6.0000 nats per token on ')
    assert f'{number} cannot show whether the difference is more than another seed or another order' in text
    summary = summarise(methods, 'stratified')
    assert summary['verdict'] == text
    folders = [run.folder for method in methods for run in method.runs]
    print_summary(folders)
    page = write_report(folders).read_text()
    printed = capsys.readouterr().out
    assert ' '.join(printed.split()).startswith(text)
    for words in (printed, page, *summary['verdicts']):
        assert '±' not in words
        assert 'lower than' not in words
    assert page.index(f'<p class="verdict">{text}</p>') < page.index('<h2>')


def test_a_baseline_that_is_lowest_is_reported(methods_of):
    text = verdict(
        methods_of(stratified=[5.0, 5.01, 5.0], x=[6.0, 6.0, 6.02], y=[7.0, 7.0, 7.0]), 'stratified'
    )
    assert text.startswith(
        'No method ended below the baseline stratified: x, the nearest, is 1.0033 nats per token above it on average, '
        'higher on 3 of 3 seeds; that is above'
    )
    assert 'chosen among 2 methods' in text


def test_methods_that_were_trained_longer_than_the_baseline_are_named_and_not_compared(methods_of, make_run):
    methods = methods_of(stratified=[6.0, 6.02, 6.01], skill_it=[5.8, 5.83, 5.82])
    expected = verdict(methods, 'stratified')
    folders = [run.folder for method in methods for run in method.runs]
    losses = [{'a': 3.0, 'b': 3.0}] * 2 + [{'a': 2.0, 'b': 2.0}]
    folders += [make_run('longer', seed=seed, rounds=2, losses=losses) for seed in (1, 2, 3)]
    text = verdict(group_runs(read_runs(folders)), 'stratified')
    assert text == f'{expected} Not compared, as trained on more samples: longer.'
    alone = [method for method in group_runs(read_runs(folders)) if method.name != 'skill_it']
    assert verdict(alone, 'stratified') == (
        'There is no verdict: nothing can be compared with stratified. '
        'Not compared, as trained on more samples: longer.'
    )


def test_the_choice_among_several_widens_the_interval():
    differences = np.array([0.2, 0.3, 0.25])
    one, four = Gap(differences, 1), Gap(differences, 4)
    assert four.half_width > one.half_width == pytest.approx(4.302653 * 0.05 / 3**0.5, rel=1e-6)


def test_a_control_of_another_order_takes_a_difference_back(methods_of):
    policy = {'again': 'stratified'}
    ends = {'stratified': [6.0, 6.02, 6.01], 'skill_it': [5.8, 5.83, 5.82]}
    calm = verdict(methods_of(policy, **ends, again=[6.01, 6.0, 6.01]), 'stratified')
    assert calm.startswith('skill_it ended lowest')
    assert 'and of the order (again, the same mixture in another order, ends up to 0.0200 away' in calm


def test_a_control_that_moves_further_leaves_no_lowest(methods_of):
    ends = {'stratified': [6.0, 6.02, 6.01], 'skill_it': [5.8, 5.83, 5.82]}
    wild = verdict(methods_of({'again': 'stratified'}, **ends, again=[5.7, 6.02, 6.01]), 'stratified')
    assert wild.startswith('skill_it and the baseline stratified cannot be told apart')
    assert (
        'but not above that of the order: again, the same mixture in another order, ends up to 0.3000' in wild
    )


def test_runs_of_one_order_say_that_its_noise_is_missing(methods_of):
    ends = {'stratified': [6.0, 6.02, 6.01], 'skill_it': [5.8, 5.83, 5.82]}
    text = verdict(methods_of(order=7, **ends), 'stratified')
    assert text.endswith(
        'All runs share one order of the samples (shuffle_seed 7), whose noise is not in this: vary it with the seed.'
    )


def test_one_method_and_none_have_nothing_to_compare(methods_of, make_run):
    assert verdict(methods_of(only=[5.0])).startswith(
        'only ended at 5.0000 nats per token (mean of 2 skills, 1 seed); nothing says yet whether that is good'
    )
    silent = group_runs(read_runs([make_run('silent', rounds=1, losses=[{}, {}])]))
    assert verdict(silent).startswith('There is no verdict')


def test_methods_without_a_common_seed_are_not_compared(methods_of, make_run):
    runs = [make_run(name, seed=seed, rounds=1) for name, seed in (('x', 1), ('y', 2))]
    assert 'no seed is common to both' in verdict(group_runs(read_runs(runs)))


def test_the_baseline_is_named_or_the_only_fixed_mixture_and_stands_first(methods_of):
    methods = methods_of(skill_it=[1.0], stratified=[2.0], proportional=[3.0])
    ordered, baseline = compared(methods)
    assert baseline == 'stratified'
    assert [method.name for method in ordered] == ['stratified', 'skill_it', 'proportional']
    ordered, baseline = compared(methods, 'proportional')
    assert [method.name for method in ordered] == ['proportional', 'skill_it', 'stratified']
    with pytest.raises(InputError, match='the baseline must be one of the methods'):
        compared(methods, 'other')
    assert compared(methods[:1]) == (list(methods[:1]), None)


def test_of_several_stratified_methods_that_of_the_name_is_the_baseline(methods_of):
    again = {'again': 'stratified', 'too': 'stratified'}
    assert compared(methods_of(again, again=[1.0], stratified=[1.0], x=[2.0]))[1] == 'stratified'
    assert compared(methods_of({'b': 'stratified', 'c': 'stratified'}, b=[1.1], c=[1.0], y=[2.0]))[1] == 'b'


def test_without_a_stratified_method_the_only_fixed_mixture_is_the_baseline(methods_of):
    assert compared(methods_of(skill_it=[1.0], proportional=[2.0]))[1] == 'proportional'
    assert compared(methods_of({'x': 'proportional', 'y': 'proportional'}, x=[1.0], y=[2.0]))[1] is None
