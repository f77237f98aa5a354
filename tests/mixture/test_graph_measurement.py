"""What a graph was learned from is kept with it, and says which edges are above their noise."""

import json

import numpy as np
import pytest
from scipy import stats

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement, StartOfRuns, student_95

EFFECTS = np.array([[0.5, -0.25, 0.1], [np.nan, 0.2, 0.02]])
ERRORS = np.array([[0.05, 0.01, 0.04], [np.nan, 0.01, np.nan]])


def learned(**changes) -> SkillsGraph:
    """A graph of two train skills that was learned with three repeats."""
    facts = {
        'method': 'approximate',
        'effects': EFFECTS,
        'steps': 60,
        'start': StartOfRuns(weights='checkpoint', path='run/ep2-ba200-rank0.pt', step=200, of_steps=2000),
        'repeats': 3,
        'standard_errors': ERRORS,
    }
    weights = np.maximum(np.nan_to_num(EFFECTS), 0)
    return SkillsGraph(['a', 'b'], ['a', 'b', 'x'], weights, measured=Measurement(**{**facts, **changes}))


@pytest.mark.parametrize('suffix', ['.json', '.npy'])
def test_it_is_saved_and_loaded_with_the_graph(tmp_path, suffix: str):
    learned().save(tmp_path / f'graph{suffix}')
    again = SkillsGraph.load(tmp_path / f'graph{suffix}')
    assert again == learned()
    assert again.measured is not None
    assert np.array_equal(again.measured.effects, EFFECTS, equal_nan=True)
    assert again.measured.start == StartOfRuns(
        weights='checkpoint', path='run/ep2-ba200-rank0.pt', step=200, of_steps=2000
    )


def test_the_file_names_the_start_and_holds_no_number_that_json_lacks(tmp_path):
    learned().save(tmp_path / 'graph.json')

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads((tmp_path / 'graph.json').read_text(), parse_constant=refuse)
    assert data['version'] == 2
    assert data['measured']['start']['part'] == 'early'
    assert data['measured']['effects'] == [[0.5, -0.25, 0.1], [None, 0.2, 0.02]]


def test_a_graph_that_was_not_learned_is_written_as_before():
    assert SkillsGraph.identity(['a']).to_dict() == {
        'version': 1,
        'train_skills': ['a'],
        'eval_skills': ['a'],
        'weights': [[1.0]],
    }


def test_selecting_takes_it_along():
    measured = learned().select(['b', 'a'], ['x', 'a']).measured
    assert measured is not None
    assert measured.standard_errors is not None
    assert np.array_equal(measured.effects, [[0.02, np.nan], [0.1, 0.5]], equal_nan=True)
    assert np.array_equal(measured.standard_errors, [[np.nan, np.nan], [0.04, 0.05]], equal_nan=True)


def test_an_effect_is_within_its_noise_if_its_interval_holds_zero():
    # Three repeats: 4.303 standard errors to each side. An effect whose error is not known is within.
    measured = learned().measured
    assert measured is not None
    assert measured.within_noise.tolist() == [[False, False, True], [False, False, True]]
    alone = learned(repeats=1, standard_errors=None).measured
    assert alone is not None
    assert not alone.within_noise.any()


def test_intervals_are_those_of_students_t():
    for freedom in range(1, 501):
        assert student_95(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), abs=2e-3)


@pytest.mark.parametrize(
    ('start', 'part', 'words'),
    [
        (StartOfRuns(weights='scratch'), 'scratch', 'scratch'),
        (
            StartOfRuns(weights='checkpoint', path='a/b.pt', step=300, of_steps=1000),
            'early',
            'early, step 300 of 1,000 (b.pt)',
        ),
        (
            StartOfRuns(weights='checkpoint', path='b.pt', step=500, of_steps=1000),
            'middle',
            'middle, step 500 of 1,000 (b.pt)',
        ),
        (
            StartOfRuns(weights='checkpoint', path='s3://x/b.pt', step=1000, of_steps=1000),
            'finished',
            'finished, step 1,000 of 1,000 (b.pt)',
        ),
        (
            StartOfRuns(weights='checkpoint', path='b.pt', step=500),
            None,
            'checkpoint, step 500 of a run of unknown length (b.pt)',
        ),
        (StartOfRuns(weights='checkpoint', path='b.pt'), None, 'a checkpoint of unknown step (b.pt)'),
        (
            StartOfRuns(weights='pretrained', path='org/model'),
            'finished',
            'finished, pretrained weights (model)',
        ),
    ],
)
def test_the_start_is_named_with_the_part_of_its_run(start: StartOfRuns, part: str | None, words: str):
    assert (start.part, start.words) == (part, words)
    assert StartOfRuns.from_dict(json.loads(json.dumps(start.to_dict()))) == start


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'effects': [[1.0]]}, r'measured.effects must have shape \(2, 3\)'),
        ({'effects': [['x']]}, 'measured.effects must be a rectangular matrix'),
        ({'start': {'weights': 'warm'}}, "start.weights must be one of scratch, checkpoint, .*'warm'"),
        ({'repeats': None}, 'measured must be what `skillit graph learn` writes'),
    ],
)
def test_a_measurement_that_does_not_fit_is_refused(change: dict, message: str):
    data = learned().to_dict()
    data['measured'].update(change)
    with pytest.raises(InputError, match=f'^g.json: {message}'):
        SkillsGraph.from_dict(data, where='g.json')
    del data['measured']['method']
    with pytest.raises(InputError, match="measured must hold 'method'"):
        SkillsGraph.from_dict(data, where='g.json')
