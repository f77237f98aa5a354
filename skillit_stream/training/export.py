"""`skillit export CHECKPOINT --out FOLDER`: a run's checkpoint as a folder that transformers loads.

Composer's own function for this leaves a folder with the tokenizer in the working directory and writes
``pytorch_model.bin``, tied weights twice; here transformers saves the model, as safetensors.
"""

import argparse
import inspect
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_url

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ('float32', 'bfloat16', 'float16')
PREFIX = 'model.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit export`."""
    parser.add_argument('checkpoint', help='a .pt file, a run folder (its newest), or a URL of a .pt file')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='a folder that is not there yet')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of the weights (float32)')


def run(args: argparse.Namespace) -> int:
    """Export and say what was written."""
    end = export(args.checkpoint, args.out, dtype=args.dtype)
    print(
        f'Wrote {args.out}: load it with AutoModelForCausalLM and AutoTokenizer; generation stops at {end}.'
    )
    return 0


def export(checkpoint: str | Path, out: str | Path, *, dtype: str = 'float32') -> str:
    """Write model and tokenizer of a checkpoint; the folder appears complete or not at all.

    Args:
        checkpoint: A ``.pt`` file of Composer, here or in an object store; a run folder stands for its newest.
        out: The folder to make.
        dtype: Of the weights: float32, bfloat16 or float16.

    Returns:
        The token that ends a document, where generation stops.

    Raises:
        InputError: There is no such checkpoint, it holds no causal language model with its tokenizer, or the
            folder exists.
    """
    target = Path(out)
    if target.exists():
        raise InputError(f'--out {out}: exists already; name a folder that does not.')
    state = _read(checkpoint)
    scratch = target.with_name(f'{target.name}.partial')
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        with as_input_error(f'{checkpoint} holds no tokenizer that transformers can load', KeyError, OSError):
            tokenizer = _tokenizer(state['integrations']['huggingface'])
        with as_input_error(
            f'{checkpoint} holds no model that transformers can build', KeyError, RuntimeError
        ):
            model = _model(state, tokenizer)
        _write(model.to(_dtype(dtype)), tokenizer, scratch)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return str(tokenizer.eos_token)


def _read(checkpoint: str | Path) -> dict[str, Any]:
    """The `state` of a checkpoint, all tensors on the CPU."""
    import torch

    with (
        _local(str(checkpoint)) as path,
        as_input_error(f'{checkpoint} is no checkpoint of Composer', Exception),
    ):
        # Nothing that the file holds is run: it may be somebody else's.
        with torch.serialization.safe_globals(_plain_types()):
            state = torch.load(path, map_location='cpu', weights_only=True, mmap=True)['state']
        if 'huggingface' not in state['integrations']:
            raise InputError(f'{checkpoint} holds no transformers model: it was not made by this package.')
        # Of the rest nothing is needed, and an optimizer is twice the model.
        return {'model': dict(state['model']), 'integrations': state['integrations']}


def _plain_types() -> list[Any]:
    """What Composer's checkpoints hold besides tensors and plain Python: times and states of generators."""
    from datetime import timedelta

    import numpy as np
    from torch.torch_version import TorchVersion

    reconstruct = np.empty(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ('uint32', 'int64', 'float32', 'float64')]
    return [timedelta, TorchVersion, np.ndarray, np.dtype, reconstruct, *dtypes]


@contextmanager
def _local(checkpoint: str) -> Iterator[Path]:
    """The checkpoint as a file; one in an object store is fetched for as long as it is needed."""
    place = _newest(Path(checkpoint)) if Path(checkpoint).is_dir() else checkpoint
    if is_url(place):
        from composer.utils import get_file

        with TemporaryDirectory() as scratch:
            path = Path(scratch, 'checkpoint.pt')
            with as_input_error(f'{place} cannot be fetched', Exception):
                get_file(place, str(path), progress_bar=False)
            yield path
        return
    if Path(place).is_dir():
        raise InputError(
            f'{place} is sharded: go on from it for a step with fsdp_config.state_dict_type=full, and export that.'
        )
    if not Path(place).is_file():
        raise InputError(f'There is no checkpoint at {place}: name a .pt file, or a run folder that has one.')
    yield Path(place)


def _newest(run: Path) -> str:
    """The newest checkpoint of a run folder, or where it would be."""
    # As when a run goes on: a run that was killed may have no link to its newest.
    from skillit_stream.training.checkpoints import LATEST, newest_of_run

    return newest_of_run(run) or str(run / 'checkpoints' / LATEST)


def _model(state: Mapping[str, Any], tokenizer: 'PreTrainedTokenizerBase') -> 'PreTrainedModel':
    import torch
    from composer.models.huggingface import get_hf_config_from_composer_state_dict
    from transformers import AutoModelForCausalLM

    from skillit_stream.training.models import name_generation_tokens, name_special_tokens

    config = get_hf_config_from_composer_state_dict({'state': state})
    # Off for training; with it generation computes every token anew.
    config.use_cache = True
    name_special_tokens(config, tokenizer)
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in state['model'].items()}
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config)
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    left = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if left or unexpected:
        raise InputError(
            f'The checkpoint does not fit its own configuration: {len(left)} weights are missing '
            f'({", ".join(left[:3]) or "none"}), {len(unexpected)} are unknown ({", ".join(unexpected[:3]) or "none"}).'
        )
    del missing
    name_generation_tokens(model, tokenizer)
    return model


def _tokenizer(state: Mapping[str, Any]) -> 'PreTrainedTokenizerBase':
    from composer.models import HuggingFaceModel

    with TemporaryDirectory() as scratch:
        loaded = HuggingFaceModel.load_huggingface_tokenizer_from_saved_state(
            dict(state), tokenizer_save_dir=scratch
        )
    if loaded is None:
        raise InputError('The checkpoint was saved without a tokenizer.')
    return loaded


def _write(model: 'PreTrainedModel', tokenizer: 'PreTrainedTokenizerBase', folder: Path) -> None:
    """Both, so that what the tokenizer returns is what the model takes: most take no `token_type_ids`."""
    taken = inspect.signature(model.forward).parameters
    names = [name for name in tokenizer.model_input_names if name in taken]
    tokenizer.model_input_names = names
    # What is saved are the arguments that the tokenizer was made with.
    tokenizer.init_kwargs['model_input_names'] = names
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def checkpoint_time(checkpoint: str | Path) -> dict[str, Any]:
    """When in its run a checkpoint was taken: `batch`, `epoch`, `sample`, `token`; empty where it does not say.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    import torch

    with (
        _local(str(checkpoint)) as path,
        as_input_error(f'{checkpoint} is no checkpoint of Composer', Exception),
        torch.serialization.safe_globals(_plain_types()),
    ):
        state = torch.load(path, map_location='cpu', weights_only=True, mmap=True).get('state', {})
    return dict(state.get('timestamp', {}).get('Timestamp', {}))
