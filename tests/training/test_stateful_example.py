"""examples/stateful_dataloader.py: stopped at any step, it goes on with as many workers or with others."""

import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import MixtureDriver
from tests.support.mds import ids_of
from tests.support.paths import ROOT

EXAMPLE = ROOT / 'examples' / 'stateful_dataloader.py'


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_the_samples_are_those_of_a_run_that_was_not_stopped(
    streams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    main = runpy.run_path(str(EXAMPLE))['main']
    drawn: list[int] = []
    handed_out = MixtureDriver.batches

    def batches(self: MixtureDriver, loader: Iterable[Any]) -> Iterator[Any]:
        for batch in handed_out(self, loader):
            drawn.extend(ids_of([batch]))
            yield batch

    monkeypatch.setattr(MixtureDriver, 'batches', batches)

    def run(folder: str, steps: int, workers: int) -> list[int]:
        drawn.clear()
        assert main([str(streams), str(tmp_path / folder), str(steps), str(workers)]) == 0
        return list(drawn)

    whole = run('whole', 44, 0)
    # As many workers inside a round and at its end, then others.
    parts = [run('parts', steps, workers) for steps, workers in ((7, 2), (20, 2), (27, 2), (33, 1), (44, 0))]
    assert [len(one) // 16 for one in parts] == [7, 13, 7, 6, 11]
    assert [one for part in parts for one in part] == whole


def test_it_is_short():
    assert len(EXAMPLE.read_text(encoding='utf-8').splitlines()) <= 100
