"""Policies by name, mixtures that stay as they are, and what a policy of one's own needs."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from skillit_stream import MixturePolicy, RoundObservation, SkillIt, SkillsGraph, StaticMixture
from skillit_stream.base.errors import InputError
from skillit_stream.mixture import build_policy, policy_names, register, registry

GRAPH = SkillsGraph(['a', 'b'], ['a', 'b'], [[1.0, 0.5], [0.0, 1.0]])
NOTHING_SEEN = RoundObservation(0, {})


class Hardest(MixturePolicy):
    """The skill with the highest loss gets twice the share of the others."""

    def __init__(self, skills, eval_skills, *, by: float = 2.0):
        super().__init__(skills, eval_skills)
        self.by = by

    def initial(self):
        return np.full(len(self.skills), 1 / len(self.skills))

    def update(self, observation):
        losses = np.array([observation.eval_losses[name] for name in self.skills])
        weights = np.where(losses == losses.max(), self.by, 1.0)
        return weights / weights.sum()


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, '_BUILDERS', dict(registry._BUILDERS))


@pytest.mark.parametrize(
    ('policy', 'skills', 'proportions'),
    [
        (StaticMixture({'b': 0.25, 'a': 0.75}), ('b', 'a'), [0.25, 0.75]),
        (StaticMixture({'a': 0.3333333, 'b': 0.6666666}), ('a', 'b'), [1 / 3, 2 / 3]),
        (StaticMixture.weighted({'a': 1, 'b': 2, 'c': 1}), ('a', 'b', 'c'), [0.25, 0.5, 0.25]),
        (StaticMixture.stratified(['a', 'b', 'c']), ('a', 'b', 'c'), [1 / 3, 1 / 3, 1 / 3]),
        (StaticMixture.proportional({'a': 30, 'b': 0, 'c': 90}), ('a', 'b', 'c'), [0.25, 0, 0.75]),
    ],
)
def test_static_mixtures_stay_as_they_are(policy, skills, proportions):
    assert policy.skills == skills
    assert policy.eval_skills == ()
    assert not policy.needs_initial_losses
    policy.observe(NOTHING_SEEN)
    for returned in (policy.initial(), policy.update(NOTHING_SEEN)):
        np.testing.assert_allclose(returned, proportions, rtol=0, atol=1e-7)
        assert returned.sum() == pytest.approx(1.0, abs=1e-15)
        returned[0] = 7  # the caller's copy


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: StaticMixture({'a': 1, 'b': 2}), 'proportions must sum to 1, but got: 3; divide each'),
        (lambda: StaticMixture({'a': 0.333, 'b': 0.666}), r'must sum to 1, but got: 0\.999'),
        (lambda: StaticMixture({'a': 1.5, 'b': -0.5}), r"not negative, but got: -0\.5 for 'b'"),
        (lambda: StaticMixture({'a': 'much'}), "not negative, but got: 'much' for 'a'"),  # type: ignore
        (lambda: StaticMixture({}), 'skills must name at least one skill'),
        (lambda: StaticMixture([0.5, 0.5]), 'proportions must map each skill'),  # type: ignore[arg-type]
        (lambda: StaticMixture.weighted({'a': 0}), 'weights must leave at least one skill above 0'),
        (lambda: StaticMixture.proportional({'a': 0}), 'sizes must leave at least one skill above 0'),
    ],
)
def test_what_is_no_static_mixture_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def build(name, **options):
    return build_policy(
        name, skills=['a', 'b'], eval_skills=['a', 'b'], graph=GRAPH, sizes={'b': 30, 'a': 10}, **options
    )


@pytest.mark.parametrize(
    ('name', 'options', 'proportions'),
    [
        ('static', {'proportions': {'b': 0.9, 'a': 0.1}}, [0.1, 0.9]),
        ('static', {'weights': {'b': 3, 'a': 1}}, [0.25, 0.75]),
        ('stratified', {}, [0.5, 0.5]),
        ('proportional', {}, [0.25, 0.75]),
        ('skill_it', {'eta': 0.5}, [0.5621765008857981, 0.4378234991142019]),
        ('skill_it', {'eta': 0.5, 'initial': {'a': 0.9, 'b': 0.1}, 'reduce': 'mean'}, [0.9, 0.1]),
        (
            'skill_it',
            {'eta': 0.5, 'published': True, 'hold_lone': True},
            [0.5621765008857981, 0.4378234991142019],
        ),
    ],
)
def test_every_built_in_policy_is_built_by_name(name, options, proportions):
    policy = build(name, **options)
    assert policy.skills == ('a', 'b')
    np.testing.assert_allclose(policy.initial(), proportions, rtol=0, atol=1e-12)


def test_options_reach_the_policy():
    policy = build('skill_it', eta=2, window=5, lag=1, reduce='mean', damp_edges=True)
    assert isinstance(policy, SkillIt)
    assert (policy.eta, policy.window, policy.lag) == (2.0, 5, 1)
    assert (policy.variant.reduce, policy.variant.damp_edges) == ('mean', True)
    published = build('skill_it', published=True, eta=0.1)
    assert isinstance(published, SkillIt)
    assert (published.lag, published.variant.window_in) == (1, 'evaluations')


def test_the_graph_is_put_into_the_order_of_the_streams():
    policy = build_policy('skill_it', skills=['b', 'a'], graph=GRAPH, eta=0.5)
    np.testing.assert_allclose(policy.initial(), [0.4378234991142019, 0.5621765008857981], rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"the skills graph \(train\): unknown skill 'c'"):
        build_policy('skill_it', skills=['a', 'c'], graph=GRAPH)


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('skillit', {}, r"unknown policy 'skillit'; did you mean 'skill_it'\?"),
        (
            'nothing like it',
            {},
            'unknown policy .*; known: ado, aioli, curriculum, dga, dirichlet, doremi, .*, static, stratified',
        ),
        ('skill_it', {'windw': 3}, r"policy 'skill_it' has no option 'windw'; did you mean 'window'\?"),
        ('skill_it', {'damp_edge': True}, r"no option 'damp_edge'; did you mean 'damp_edges'\?"),
        ('skill_it', {'published': 'yes'}, "published must be one of False, True, but got: 'yes'"),
        ('skill_it', {'published': True}, "published=True needs the option 'eta'"),
        ('skill_it', {'published': True, 'eta': 1, 'lag': 0}, "has no option 'lag'"),
        *(
            (
                'skill_it',
                {'published': True, 'eta': 1, option: value},
                f"published=True sets the option '{option}' itself; leave {option} out",
            )
            for option, value in {
                'window_in': 'rounds',
                'reduce': 'sum',
                'first_losses': 0,
                'initial_losses': 'prior',
                'unit_edges': 'keep',
                'diagonal': 'skill',
                'compound': False,
            }.items()
        ),
        ('static', {}, "needs one of the options 'proportions' and 'weights'"),
        ('static', {'proportions': {'a': 1}}, 'proportions must name every skill .* lacks: b'),
        ('static', {'weights': {'a': 1, 'c': 1}}, "weights names the unknown skill 'c'"),
        ('stratified', {'eta': 1}, "policy 'stratified' has no option 'eta'; known: targets"),
    ],
)
def test_names_and_options_that_do_not_exist_are_answered_with_the_nearest(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, **options)


def test_what_a_policy_needs_of_the_run_is_asked_for():
    with pytest.raises(InputError, match="'skill_it' needs a skills graph, but got none"):
        build_policy('skill_it', skills=['a'])
    with pytest.raises(InputError, match="'proportional' needs the sizes of the streams"):
        build_policy('proportional', skills=['a'])


def test_a_policy_of_ones_own_is_registered_by_a_decorator(own_registry):
    register('hardest')(Hardest)
    assert 'hardest' in policy_names()
    policy = build('hardest', by=3)
    assert policy.update(RoundObservation(0, {'a': 1.0, 'b': 2.0})).tolist() == [0.25, 0.75]
    with pytest.raises(InputError, match=r"policy 'hardest' has no option 'bye'; did you mean 'by'\?"):
        build('hardest', bye=3)
    with pytest.raises(InputError, match="a policy named 'hardest' is already registered"):
        register('hardest')(StaticMixture)


def test_an_option_without_default_has_to_be_given(own_registry):
    @register('needy')
    def build_needy(skills, *, towards):
        return StaticMixture.stratified(skills)

    with pytest.raises(InputError, match="policy 'needy' needs the option 'towards'"):
        build('needy')
    assert build('needy', towards='a').skills == ('a', 'b')


def test_an_installed_package_offers_policies_by_entry_point(monkeypatch):
    point = EntryPoint('hardest', f'{__name__}:Hardest', 'skillit_stream.policies')
    monkeypatch.setattr(registry, 'entry_points', lambda group: [point] if group == point.group else [])
    assert isinstance(build('hardest'), Hardest)
    with pytest.raises(InputError, match="did you mean 'hardest'"):
        build('hardes')


def test_a_policy_without_memory_saves_its_name_and_skills_and_refuses_others():
    policy = Hardest(['a', 'b'], ['a', 'b'])
    state = policy.state_dict()
    assert state['policy'] == 'Hardest'
    policy.load_state_dict(state)
    with pytest.raises(InputError, match="policy is 'Hardest' in the checkpoint, 'static' in this run"):
        StaticMixture.stratified(['a', 'b']).load_state_dict(state)
    with pytest.raises(InputError, match="'Hardest' remembers nothing, but its state holds: eta"):
        policy.load_state_dict({**state, 'memory': {'eta': 1}})


def test_the_mixture_layer_imports_neither_torch_nor_the_engines():
    program = (
        'import sys, skillit_stream.mixture\n'
        'print(sorted({"torch", "composer", "streaming", "transformers"} & set(sys.modules)))'
    )
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'
