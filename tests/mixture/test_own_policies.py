"""A policy of one's own, named by its place."""

import pickle

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, build_policy

TILT = '''
import numpy as np

from skillit_stream.mixture import MixturePolicy


class Tilt(MixturePolicy):
    """More of one skill, whatever the losses."""

    def __init__(self, skills, round_size, *, towards: str, by: float = 2.0):
        super().__init__(skills)
        weights = np.array([by if name == towards else 1.0 for name in self.skills])
        self.shares = weights / weights.sum()
        self.round_size = round_size

    def initial(self):
        return self.shares

    def update(self, observation):
        return self.shares


def no_policy():
    return 7
'''


@pytest.fixture
def tilt(tmp_path):
    path = tmp_path / 'tilt.py'
    path.write_text(TILT)
    return path


def build(name, **options):
    return build_policy(name, skills=['a', 'b'], round_size=64, **options)


def test_a_file_and_a_class_name_a_policy(tilt):
    policy = build(f'{tilt}:Tilt', towards='b', by=3)
    assert policy.initial().tolist() == [0.25, 0.75]
    assert policy.update(RoundObservation(0, {})).tolist() == [0.25, 0.75]
    assert policy.describe() == {'name': 'Tilt'}
    assert policy.notes() == []
    assert vars(pickle.loads(pickle.dumps(policy)))['round_size'] == 64


def test_a_module_and_a_class_name_a_policy(tilt, monkeypatch):
    monkeypatch.syspath_prepend(tilt.parent)
    assert build('tilt:Tilt', towards='a').initial().tolist() == pytest.approx([2 / 3, 1 / 3])
    package = 'skillit_stream.mixture.static:build_stratified'
    assert build(package).initial().tolist() == [0.5, 0.5]


def test_limits_go_around_it_too(tilt):
    assert build(f'{tilt}:Tilt', towards='b', by=9, ceiling=0.6).initial().tolist() == pytest.approx(
        [0.4, 0.6]
    )


@pytest.mark.parametrize(
    ('place', 'options', 'message'),
    [
        ('{}:Tilt', {}, "Tilt' needs the option 'towards'"),
        ('{}:Tilt', {'toward': 'a'}, "has no option 'toward'; did you mean 'towards'"),
        ('{}:Tilted', {}, "has no class 'Tilted'; did you mean 'Tilt'"),
        ('{}:no_policy', {}, 'must be a MixturePolicy, but is a int'),
        ('{}x.py:Tilt', {}, r'no such file: .*tilt\.pyx\.py; a policy of your own is'),
        (
            'no.such.module:Tilt',
            {},
            "no.such.module cannot be imported: ModuleNotFoundError: No module named 'no'",
        ),
        (':Tilt', {}, "unknown policy ':Tilt'"),
    ],
)
def test_what_is_wrong_with_a_place_is_said_in_a_line(tilt, place, options, message):
    with pytest.raises(InputError, match=message) as caught:
        build(place.format(tilt), **options)
    assert '\n' not in str(caught.value)


def test_an_error_in_the_file_is_said_in_a_line(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('1 / 0\n')
    with pytest.raises(
        InputError, match=r'broken\.py cannot be imported: ZeroDivisionError: division by zero'
    ):
        build(f'{path}:Tilt')
