"""Rows and columns for skills that a graph does not know."""

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement

SQUARE = SkillsGraph([*'ab'], [*'ab'], [[0.2, 0.1], [0.3, 0.4]])
TARGETS = SkillsGraph([*'ab'], [*'xy'], [[0.2, 0.1], [0.4, 0.3]])
ABC = [*'abc']


def test_identity_helps_itself_alone_by_the_mean_of_the_others_own_weights():
    grown = SQUARE.with_new_skills([*'cab'], ABC, 'identity')
    assert (grown.train_skills, grown.eval_skills) == (('a', 'b', 'c'), ('a', 'b', 'c'))
    assert grown.weights == pytest.approx(np.array([[0.2, 0.1, 0], [0.3, 0.4, 0], [0, 0, 0.3]]))


def test_mean_is_as_the_others_are_to_each_other():
    grown = SQUARE.with_new_skills([*'abcd'], [*'abcd'], 'mean')
    assert grown.weights == pytest.approx(
        np.array([[0.2, 0.1, 0.1, 0.1], [0.3, 0.4, 0.3, 0.3], [0.3, 0.1, 0.3, 0.2], [0.3, 0.1, 0.2, 0.3]])
    )


def test_columns_of_targets_stay_as_they_are():
    assert TARGETS.with_new_skills(ABC, [*'cxy'], 'identity').weights.tolist() == [
        [0.2, 0.1],
        [0.4, 0.3],
        [0, 0],
    ]
    assert TARGETS.with_new_skills(ABC, [*'cxy'], 'mean').weights == pytest.approx(
        np.array([[0.2, 0.1], [0.4, 0.3], [0.3, 0.2]])
    )


def test_a_skill_that_is_not_evaluated_gets_no_column():
    assert SQUARE.with_new_skills(ABC, [*'ab'], 'mean').weights.shape == (3, 2)


def test_a_new_target_gets_a_column():
    assert SQUARE.with_new_skills([*'ab'], [*'abx'], 'mean', targets=['x']).weights[:, 2].tolist() == [
        0.1,
        0.3,
    ]
    # Nobody is known to help it, and it is not trained on: the column would say nothing.
    assert SQUARE.with_new_skills([*'ab'], [*'abx'], 'identity', targets=['x']) == SQUARE
    grown = SQUARE.with_new_skills(ABC, ABC, 'identity', targets=['c'])
    assert grown.weights == pytest.approx(np.array([[0.2, 0.1, 0], [0.3, 0.4, 0], [0, 0, 0.3]]))


def test_rows_are_written_out():
    grown = SQUARE.with_new_skills(ABC, ABC, {'c': {'c': 0.5, 'a': 0.25}})
    assert grown.weights.tolist() == [[0.2, 0.1, 0], [0.3, 0.4, 0], [0.25, 0, 0.5]]


@pytest.mark.parametrize('new', ['error', 'identity', 'mean', {}])
def test_a_graph_that_lacks_nothing_stays_as_it_is(new):
    assert SQUARE.with_new_skills([*'ab'], [*'ab'], new) is SQUARE


def test_by_default_nothing_is_added():
    assert SQUARE.with_new_skills(ABC, ABC, 'error') is SQUARE


def test_what_was_measured_of_the_others_is_kept():
    measured = Measurement(method='approximate', effects=SQUARE.weights)
    grown = SkillsGraph([*'ab'], [*'ab'], SQUARE.weights, measured=measured).with_new_skills(ABC, ABC, 'mean')
    assert grown.measured is not None
    assert np.array_equal(
        grown.measured.effects,
        [[0.2, 0.1, np.nan], [0.3, 0.4, np.nan], [np.nan, np.nan, np.nan]],
        equal_nan=True,
    )


@pytest.mark.parametrize(
    ('new', 'message'),
    [
        ('zero', '`new_skills` must be error, identity, mean or rows written out'),
        ({'d': {'d': 1}}, "row for 'd', which is not trained on"),
        ({'a': {'a': 1}, 'c': {'c': 1}}, "row for 'a', but the graph has one"),
        ({'c': 1}, r"row 'c' must be eval skills with their weights, such as \{c: 1\}, but got: 1"),
        ({}, 'no row for c, and neither has the graph'),
        ({'c': {'c': float('inf')}}, 'must be finite'),
    ],
)
def test_what_says_nothing_of_the_new_skills_is_refused(new, message: str):
    with pytest.raises(InputError, match=message):
        SQUARE.with_new_skills(ABC, ABC, new)
