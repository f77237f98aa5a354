"""benchmarks/train.py: its smoke run goes through the whole script, and nothing else passes for a measurement."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.paths import ROOT

BENCHMARKS = ROOT / 'benchmarks'


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module; its `main` reads the arguments that `run` is given."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module: Any = importlib.import_module('train')

    def run(*arguments: str) -> None:
        monkeypatch.setattr('sys.argv', ['benchmarks/train.py', *arguments])
        module.main()

    module.run = run
    return module


def test_the_smoke_run_fills_the_table(benchmark: Any, tmp_path: Path):
    benchmark.run('--smoke', '--repeats', '1', '--out', str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ['train-smoke.json']
    record = json.loads((tmp_path / 'train-smoke.json').read_text())
    rows = {(row['measure'], row['kernels'], row['microbatch']): row for row in record['rows']}
    measures = dict.fromkeys(name for name, _, _ in rows)
    # Neither MFU nor the memory of a GPU where there is none.
    assert list(measures) == [
        'throughput (ktok/s)',
        'waiting for data (%)',
        'step (ms)',
        'step after a change (ms)',
        'change',
        'difference of loss (%)',
    ]
    # Two rounds of four steps are measured, the first step of each apart from the others.
    assert rows['step (ms)', 'eager', 2]['values'] == 6
    assert rows['step after a change (ms)', 'auto', 4]['values'] == 2
    assert rows['throughput (ktok/s)', 'eager', 2]['this / eager'] == 1.0
    # SDPA and eager attention: the same weights and the same samples in the same order.
    assert rows['difference of loss (%)', 'auto', 2]['values'] == 8
    assert rows['difference of loss (%)', 'auto', 2]['highest'] < 1e-3
    assert record['configuration']['kernels']['eager, microbatch 2'] == 'kernels eager: attention eager'
    assert record['configuration']['device'] == 'cpu'


def test_a_job_of_its_own_process_prints_its_figures(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    setting = benchmark.SMOKE
    benchmark.train_job.write_streams(tmp_path, setting)
    benchmark.run('--one', str(tmp_path), json.dumps([setting.describe(), 'eager', 2]))
    run = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(run['seconds']) == len(run['losses']) == 8
    assert run['first'] == [True, False, False, False] * 2
    assert run['flops'] > 0
    figures = benchmark.figures_of({**run, 'peak_flops': 10**9, 'peak_bytes': 2 * 10**9}, setting)
    seconds = sum(run['seconds'])
    assert figures['MFU (%)'] == [pytest.approx(8 * run['flops'] / seconds / 1e9 * 100)]
    assert figures['peak memory (GB)'] == [2.0]
    assert figures['throughput (ktok/s)'] == [pytest.approx(8 * 4 * 32 / seconds / 1e3)]


def test_the_results_name_the_gpu(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\necho "NVIDIA H200, 143771 MiB, 550.54"\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    reporting = importlib.import_module('reporting')
    assert reporting.hardware()['gpus'] == ['NVIDIA H200, 143771 MiB, 550.54']


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU: it would measure')
def test_without_a_gpu_nothing_is_measured(benchmark: Any, tmp_path: Path):
    with pytest.raises(SystemExit, match='There is no GPU here: --smoke runs a tiny model'):
        benchmark.run('--out', str(tmp_path))
    assert list(tmp_path.iterdir()) == []
