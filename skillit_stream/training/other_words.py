"""What other trainers call a key of the training YAML, and which key it is here."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from skillit_stream.base.names import nearest

_OF_THE_DATASET = (
    'shuffle',
    'shuffle_seed',
    'shuffle_block_size',
    'num_canonical_nodes',
    'cache_limit',
    'predownload',
    'replication',
    'download_retry',
    'download_timeout',
    'validate_hash',
    'keep_zip',
)
# A key of llm-foundry, transformers or Streaming, wherever it stands -> the key here.
_HERE = {
    'device_eval_batch_size': 'eval_loader.batch_size',
    'eval_batch_size': 'eval_loader.batch_size',
    'eval_subset_num_batches': 'eval_loader.subset_num_batches',
    'eval_first': 'eval_loader.before_training',
    'train_subset_num_batches': 'train_loader.round_size',
    'epoch_size': 'train_loader.round_size',
    'batch_size': 'global_train_batch_size',
    'device_train_batch_size': 'global_train_batch_size',
    'console_log_interval': 'log_to_console',
    'python_log_level': 'log_to_console',
    'global_seed': 'seed',
    'max_steps': 'max_duration',
    'run_folder': 'save_folder',
    'output_dir': 'save_folder',
    'dist_backend': 'dist_timeout',
    'parallelism_config': 'fsdp_config',
    'data_local': 'streams_local',
    'data_remote': 'streams',
    'lr': 'optimizer.lr',
    'learning_rate': 'optimizer.lr',
    'weight_decay': 'optimizer.weight_decay',
    't_warmup': 'scheduler.t_warmup',
    'gradient_clipping': 'algorithms.gradient_clipping',
    **{name: f'algorithms.data_mixing.{name}' for name in ('policy', 'graph', 'eta', 'tilt', 'targets')},
    **{name: f'train_loader.dataset.{name}' for name in _OF_THE_DATASET},
}
_NO_KEY = {'max_seq_len': 'samples are as long as `skillit convert --seq-len` made them: leave it out'}


def hint(name: str, level: Mapping[str, Any], schema: type) -> str:
    """What an unknown key probably is: another's word for a key, one of another level, or one spelled wrong.

    Args:
        name: Of the key, without the keys above it.
        level: The keys known where it stands.
        schema: Dataclass of the whole YAML.
    """
    if not {'train_loader', 'eval_loader'} <= {item.name for item in fields(schema)}:
        return nearest(name, level)  # no training YAML
    if name in _NO_KEY:
        return _NO_KEY[name]
    here = _HERE.get(name) or _elsewhere(name, schema)
    return f'here it is `{here}`' if here else nearest(name, level)


def _elsewhere(name: str, schema: type, prefix: str = '') -> str | None:
    """The key of this name at another level, with dots."""
    for item in fields(schema):
        if item.name == name:
            return prefix + name
    below = [item for item in fields(schema) if isinstance(item.type, type) and is_dataclass(item.type)]
    found = (_elsewhere(name, item.type, f'{prefix}{item.name}.') for item in below)  # type: ignore[arg-type]
    return next((one for one in found if one), None)
