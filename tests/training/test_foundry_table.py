"""The tables of docs/llm-foundry.md: every key of llm-foundry's training YAML is in them, every key of ours exists."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from skillit_stream.training.config import ModelConfig, TrainConfig
from skillit_stream.training.parts import ALGORITHMS, CALLBACKS, DATA_MIXING
from tests.support.paths import ROOT

# The fields of llmfoundry.utils.config_utils.TrainConfig, 0.22.
_NAMES = """
accumulate_train_batch_on_tokens algorithms autoresume callbacks code_paths compile_config console_log_interval
cuda_load_lazy device_eval_batch_size device_train_batch_size device_train_grad_accum device_train_microbatch_size
dist_timeout eval_first eval_gauntlet eval_gauntlet_str eval_interval eval_loader eval_loaders eval_subset_num_batches
expandable_segments flatten_metadata fsdp_config global_train_batch_size icl_seq_len icl_subset_num_batches icl_tasks
icl_tasks_str load_ignore_keys load_path load_strict_model_weights load_weights_only log_config log_to_console loggers
max_duration max_seq_len max_split_size_mb metadata model n_gpus only_composer_checkpoint only_hf_checkpoint optimizer
precision profiler progress_bar python_log_level run_name save_filename save_folder save_ignore_keys save_interval
save_latest_filename save_num_checkpoints_to_keep save_overwrite save_weights_only scheduler seed spin_dataloaders
tokenizer tp_config train_loader train_subset_num_batches variables
"""
FOUNDRY_KEYS = _NAMES.split()
# Mappings whose keys are names of parts, not fields.
PARTS = {'algorithms': {**ALGORITHMS, DATA_MIXING: None}, 'callbacks': CALLBACKS}


def rows() -> Iterator[tuple[list[str], list[str], str]]:
    """Keys of llm-foundry, keys here and remark, of every row of the page's tables."""
    for line in (ROOT / 'docs' / 'llm-foundry.md').read_text(encoding='utf-8').splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('| ') and len(cells) == 3 and cells[1] not in ('', 'here'):
            theirs, ours = (re.findall(r'`([^`]+)`', cell) for cell in cells[:2])
            yield theirs, ours, cells[2]


ROWS = list(rows())


def is_key(name: str) -> bool:
    """Whether the YAML of `skillit train` has a key with these dots."""
    kind: Any = TrainConfig
    for part in name.split('.'):
        if isinstance(kind, type) and is_dataclass(kind):
            types = {item.name: item.type for item in fields(kind)}
            if part not in types:
                return False
            kind = PARTS.get(part, types[part])
        elif isinstance(kind, dict) and part in kind:
            kind = None
        else:
            return False
    return True


def test_every_key_of_llm_foundry_has_one_row():
    named = [name for theirs, _, _ in ROWS for name in theirs if '.' not in name]
    assert sorted(named) == sorted(FOUNDRY_KEYS)


def test_the_list_is_llm_foundrys_where_it_is_installed():
    foundry = pytest.importorskip('llmfoundry.utils.config_utils')
    assert sorted(FOUNDRY_KEYS) == sorted(foundry.TRAIN_CONFIG_KEYS)


@pytest.mark.parametrize('name', sorted({name for _, ours, _ in ROWS for name in ours}))
def test_every_key_named_as_ours_exists(name: str):
    assert is_key(name)


def test_a_row_without_a_key_here_says_why():
    for theirs, ours, remark in ROWS:
        assert ours or len(remark) > 5, theirs


def test_no_row_says_that_there_is_no_such_key_where_there_is():
    for theirs, ours, _ in ROWS:
        if not ours:
            assert [name for name in theirs if is_key(name)] == []


def test_keys_that_are_the_same_stand_as_the_same():
    shared = {item.name for item in fields(TrainConfig)} & set(FOUNDRY_KEYS)
    shared |= {f'model.{item.name}' for item in fields(ModelConfig)} & {
        name for theirs, _, _ in ROWS for name in theirs
    }
    for theirs, ours, _ in ROWS:
        for name in shared & set(theirs):
            assert name in ours


def test_a_key_that_does_not_exist_is_seen():
    assert is_key('train_loader.round_size')
    assert is_key('callbacks.memory_snapshot')
    for name in ('train_loader.rounds', 'streems', 'callbacks.no_such', 'seed.of', 'model.n_layers'):
        assert not is_key(name)
