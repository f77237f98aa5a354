"""A run whose policy begins after some rounds: in its log, and over a stop."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from skillit_stream import SkillsGraph
from tests.support.run_folders import rounds_of, without_clocks
from tests.support.training_runs import SKILLS

WAITS = ['algorithms.data_mixing.start=2ep', 'save_interval=1ep', 'algorithms.data_mixing.window=1']


@pytest.mark.filterwarnings('ignore:start. skill_it begins')
def test_the_log_has_the_mixture_before_and_the_policys_after(
    trained: Callable[..., None], run_folder: Path, streams: Path
):
    trained(*WAITS, 'max_duration=4ep')
    lines = rounds_of(run_folder)
    assert [line['proportions'] for line in lines[:2]] == [dict.fromkeys(SKILLS, 1 / 3)] * 2
    weights = SkillsGraph.load(streams / 'graph.json').select(SKILLS, SKILLS).weights
    for before, line in pairwise(lines[1:]):
        gain = np.exp(0.5 * weights @ np.array([before['losses'][skill] for skill in SKILLS]))
        assert [line['proportions'][skill] for skill in SKILLS] == pytest.approx((gain / gain.sum()).tolist())
    assert lines[1]['notes'] == ['start: skill_it begins with round 2']


@pytest.mark.filterwarnings('ignore:start. skill_it begins')
@pytest.mark.parametrize('stopped_at', ['13ba', '3ep'])
def test_a_run_that_stops_goes_on_as_if_it_had_not(
    trained: Callable[..., None], run_folder: Path, tmp_path: Path, stopped_at: str
):
    trained(*WAITS, 'max_duration=4ep', f'save_folder={tmp_path / "whole"}')
    trained(*WAITS, f'max_duration={stopped_at}')
    trained(*WAITS, 'max_duration=4ep', 'autoresume=true')
    assert without_clocks(rounds_of(run_folder)) == without_clocks(rounds_of(tmp_path / 'whole'))
