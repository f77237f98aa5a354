"""Reuse of an old mixture: kept skills as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture_fit.groups import KEPT, every_skill, kept_as_one
from skillit_stream.mixture_fit.simplex import entropy_term

SKILLS = ('web', 'code', 'books', 'law')
KEEP = {'web': 0.6, 'books': 0.2, 'code': 0.2}


def test_kept_skills_are_one_in_their_old_ratio():
    groups = kept_as_one(SKILLS, KEEP, ['law', 'code'])
    assert groups.names == ('code', 'law', KEPT)
    assert groups.expand(np.array([0.1, 0.5, 0.4])) == pytest.approx([0.3, 0.1, 0.1, 0.5])
    assert groups.reduce(np.array([0.3, 0.1, 0.1, 0.5])) == pytest.approx([0.1, 0.5, 0.4])


def test_the_total_is_held_by_the_tightest_of_the_kept():
    groups = kept_as_one(SKILLS, KEEP, ['law', 'code'])
    # books holds a quarter of the kept: 0.1 of it is reached at a total of 0.4
    assert groups.reduce_limits(np.array([0.6, 0.7, 0.1, 1.0])) == pytest.approx([0.7, 1.0, 0.4])


def test_spread_is_how_far_runs_are_from_the_ratio():
    groups = kept_as_one(SKILLS, KEEP, ['law', 'code'])
    assert groups.spread(np.array([[0.3, 0.1, 0.1, 0.5]])) == pytest.approx(0.0, abs=1e-12)
    assert groups.spread(np.array([[0.2, 0.1, 0.2, 0.5]])) == pytest.approx(0.1)


@given(seed=st.integers(0, 1000))
def test_the_pull_on_groups_is_the_divergence_of_the_skills(seed: int):
    rng = np.random.default_rng(seed)
    natural, totals = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
    groups = kept_as_one(SKILLS, KEEP, ['law', 'code'])
    skills = groups.expand(totals)
    divergence = float((skills * np.log(skills / natural)).sum())
    assert float(entropy_term(totals, groups.log_base(natural))) == pytest.approx(divergence, abs=1e-9)
    everything = every_skill(SKILLS)
    assert float(entropy_term(skills, everything.log_base(natural))) == pytest.approx(divergence, abs=1e-9)


@pytest.mark.parametrize(
    ('keep', 'changed', 'message'),
    [
        (KEEP, ['lw'], r"--changed names the unknown skill 'lw'; did you mean 'law'\?"),
        (KEEP, list(SKILLS), 'nothing to keep'),
        ({'web': 1.0}, ['law', 'code'], 'lacks: books'),
        ({'web': 0.0, 'books': 0.0}, ['law', 'code'], 'at least one skill above 0'),
        ([0.5], ['law'], 'must map each skill'),
    ],
)
def test_what_cannot_be_reused_is_refused(keep, changed: list[str], message: str):
    with pytest.raises(InputError, match=message):
        kept_as_one(SKILLS, keep, changed)
