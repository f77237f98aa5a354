"""benchmarks/train.py: its smoke run goes through the whole script, and nothing else passes for a measurement."""

import importlib
import json
import weakref
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.paths import ROOT

BENCHMARKS = ROOT / 'benchmarks'
# What a job gives, as if it had been trained.
RUN = dict(
    kernels='k',
    microbatch=2,
    flops=1,
    peak_flops=None,
    peak_bytes=None,
    seconds=[1.0] * 8,
    waiting=[0.0] * 8,
    first=[True, False, False, False] * 2,
    losses=[1.0] * 12,
    start=1.0,
    evaluation=1.0,
    evaluated=10,
    profile=None,
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module; its `main` reads the arguments that `run` is given."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # The compiler behind torch.compile takes half a minute on a CPU.
    monkeypatch.setattr(nn.Module, 'compile', partialmethod(nn.Module.compile, backend='aot_eager'))
    module: Any = importlib.import_module('train')

    def run(*arguments: str) -> None:
        monkeypatch.setattr('sys.argv', ['benchmarks/train.py', *arguments])
        module.main()

    module.run = run
    return module


@pytest.fixture
def cheap_limits(monkeypatch: pytest.MonkeyPatch, benchmark: Any) -> None:
    """The GPU's limits as if they had been measured."""
    found = {'large': 1e12, 'copy': 1e10, 'products': 2e-6, 'attention': {'default': 1e-6}}
    monkeypatch.setattr(benchmark, '_limits', lambda setting: found)


def test_the_smoke_run_fills_the_table(benchmark: Any, tmp_path: Path):
    benchmark.run('--smoke', '--out', str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ['train-smoke.json']
    record = json.loads((tmp_path / 'train-smoke.json').read_text())
    rows = {(row['job'], row['microbatch']): row for row in record['rows']}
    assert list(rows) == [(job.name, job.microbatch) for job in benchmark.SMOKE_JOBS]
    for row in rows.values():
        # Neither MFU nor the memory of a GPU where there is none.
        assert (row['MFU (%)'], row['GB']) == (None, None)
        assert row['lowest'] <= row['step (ms)'] <= row['highest']
        assert row['eval (ktok/s)'] > 0
        # The same weights and the same samples in the same order.
        assert (row['loss apart (%)'] < 1e-3) == (row['job'] != 'documents masked')
    assert record['left_out'] == {}
    # Two rounds of four steps are measured, and one before them warms up.
    assert {len(losses) for losses in record['losses'].values()} == {12}
    assert record['limit']['attention']['default'] > 0
    (profile,) = record['profiles'].values()
    assert sum(profile['by_purpose'].values()) == pytest.approx(profile['step'])
    took = {job['name']: job['took'] for job in record['configuration']['jobs']}
    assert took['eager attention'] == 'kernels eager: attention eager'
    assert 'compiled_layers' in took['compiled']
    assert record['configuration']['device'] == 'cpu'


def test_mfu_and_memory_are_those_of_the_measured_steps(benchmark: Any, tmp_path: Path):
    setting = benchmark.SMOKE
    benchmark.train_job.write_streams(tmp_path, setting)
    job = benchmark.TrainingJob('eager', 'eager', 2)
    run = benchmark.train_job.measure_job(tmp_path, setting, job)
    assert len(run['seconds']) == 8
    assert len(run['losses']) == 12
    assert run['first'] == [True, False, False, False] * 2
    row = benchmark.row_of(job, {**run, 'peak_flops': 10**9, 'peak_bytes': 2 * 10**9}, setting)
    seconds = sum(run['seconds'])
    assert row['MFU (%)'] == pytest.approx(8 * run['flops'] / seconds / 1e9 * 100)
    assert row['GB'] == 2.0
    assert row['ktok/s'] == pytest.approx(8 * 4 * 32 / seconds / 1e3)
    limit = benchmark.limit_of(
        {'products': 2e-6, 'attention': {'a': 3e-6, 'b': 1e-6}}, {**run, 'peak_flops': 10**9}, setting
    )
    assert limit['step (ms)'] == pytest.approx(4 * 32 * 3e-3)
    assert limit['of it attention (%)'] == pytest.approx(100 / 3)


def test_a_job_leaves_nothing_to_the_next(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []
    build = benchmark.train_job._model

    def noted(*arguments: Any) -> Any:
        model = build(*arguments)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(benchmark.train_job, '_model', noted)
    benchmark.train_job.write_streams(tmp_path, benchmark.SMOKE)
    benchmark.train_job.measure_job(
        tmp_path, benchmark.SMOKE, benchmark.TrainingJob('eager', 'eager', 2, profile=True)
    )
    benchmark.train_job.release()
    assert [model() for model in made] == [None]


@pytest.mark.usefixtures('cheap_limits')
def test_a_job_that_fails_or_has_no_time_is_left_out_by_name(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tried = []

    def measured(folder: Path, setting: Any, job: Any) -> dict[str, Any]:
        tried.append(job.microbatch)
        if job.microbatch == 4:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        if job.name == 'broken':
            raise ValueError('no such thing\nmore')
        return RUN

    monkeypatch.setattr(benchmark.train_job, 'measure_job', measured)
    jobs = [benchmark.TrainingJob('large', 'eager', 4), benchmark.TrainingJob('broken', 'eager', 2)]
    found = benchmark.measure(tmp_path, benchmark.SMOKE, jobs, minutes=1, out=str(tmp_path), name='train')
    # Half of the microbatch fits.
    assert tried == [4, 2, 2]
    assert [row['job'] for row in found['rows']] == ['large']
    assert found['left_out'] == {
        'large, microbatch 4': 'more than the memory',
        'broken, microbatch 2': 'ValueError: no such thing',
    }
    none = benchmark.measure(tmp_path, benchmark.SMOKE, jobs, minutes=-1, out=None, name='train')
    assert set(none['left_out'].values()) == {'no time left'}


@pytest.mark.slow
@pytest.mark.usefixtures('cheap_limits')
def test_repeats_are_rows_of_their_own(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(benchmark.train_job, 'measure_job', lambda folder, setting, job: RUN)
    benchmark.run('--smoke', '--repeats', '2', '--out', str(tmp_path))
    rows = json.loads((tmp_path / 'train-smoke.json').read_text())['rows']
    assert [row['job'] for row in rows] == [job.name for job in benchmark.SMOKE_JOBS] * 2


def test_the_time_of_a_step_goes_to_the_kernels_and_to_nothing(benchmark: Any):
    del benchmark
    step_profile = importlib.import_module('step_profile')
    found = step_profile.summary(
        [
            ('nvjet_sm90_tst', 0, 1000),
            ('triton_poi_fused_softmax', 1500, 2000),
            # Beside the one before it, and on after it.
            ('cudnn_generated_fort_native_sdpa', 1900, 2500),
            ('nvjet_sm90_tst', 2500, 3000),
        ]
    )
    assert found['step'] == 3.0
    assert found['by_purpose'] == {
        'matrix products': 1.5,
        'nothing runs': 0.5,
        'compiled pointwise': 0.5,
        'attention': 0.5,
    }
    assert found['kernels'][0] == ['nvjet_sm90_tst', 2, 1.5]
    assert step_profile.summary([])['kernels'] == []


def test_the_jobs_of_a_gpu_begin_with_what_is_taken_by_itself(benchmark: Any):
    assert benchmark.JOBS[0].kernels == 'compiled'
    assert benchmark.JOBS[1].name == benchmark.PLAIN
    assert {job.kernels for job in benchmark.JOBS} == {'compiled', 'fused', 'transformers', 'eager'}


def test_the_results_name_the_gpu(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    del benchmark
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
