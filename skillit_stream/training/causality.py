"""A model that sees the future passes for a very good one: whether it does is tried before it is trained."""

import torch
from composer import Trainer
from composer.core import get_precision_context

from skillit_stream.base.errors import InputError, first_line

LENGTH = 16  # tokens of what is tried
# Largest move of earlier logits, as a part of the largest logit: what rounding makes of the same numbers.
_ROUNDING, _ROUNDING_OF_LESS = 1e-4, 1e-2


def refuse_not_causal(trainer: Trainer, *, vocab_size: int, seq_len: int) -> None:
    """Change the last token of a sample: the logits at earlier positions must stay as they are.

    Tried on the model as it will train, on every rank: with its kernels, precision and sharding.

    Args:
        trainer: Holds the model where it will train.
        vocab_size: Token ids are below it.
        seq_len: Tokens in a sample.

    Raises:
        InputError: They move, or the model fails as soon as it is called.
    """
    length = min(LENGTH, seq_len)
    if length < 2 or vocab_size < 2:
        return
    state = trainer.state
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (1, length), generator=generator)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1 + vocab_size // 2) % vocab_size
    before, after = (_logits(trainer, one) for one in (tokens, other))
    earlier = before[:, :-1].float()
    moved = (after[:, :-1].float() - earlier).abs().max()
    rounding = _ROUNDING if before.dtype == torch.float32 else _ROUNDING_OF_LESS
    if moved > rounding * earlier.abs().max():
        name = type(getattr(state.model, 'model', state.model)).__name__
        raise InputError(
            f'The model ({name}) is not causal: another last token moves the logits before it, so '
            'that it sees what it should predict. Take a causal language model, or '
            "make this one a decoder (BERT's kin: model.config.is_decoder=true)."
        )


def _logits(trainer: Trainer, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [1, tokens, vocabulary] of one sample [1, tokens]."""
    state = trainer.state
    batch = state.device.batch_to_device({'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)})
    was_training = state.model.training
    state.model.eval()
    try:
        with torch.no_grad(), get_precision_context(state.precision, state.precision_config):
            return state.model(batch).logits
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the code of a model raises
        raise InputError(
            f'The model cannot be called as `model` has it: {type(error).__name__}: {first_line(error)}'
        ) from error
    finally:
        state.model.train(was_training)
