"""A model that sees what it should not passes for a very good one: whether it does is tried before it is trained."""

from collections.abc import Mapping

import torch
from composer import Trainer
from composer.core import State, get_precision_context

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.loader.batches import causal_lm_inputs

LENGTH = 16  # tokens of what is tried
# Largest move of logits that should stay, as a part of the largest: what rounding makes of the same numbers.
_ROUNDING, _ROUNDING_OF_LESS = 1e-4, 1e-2


def refuse_what_sees_too_much(
    trainer: Trainer, vocab_size: int, seq_len: int, document_end: int | None = None
) -> None:
    """Change tokens that others must not see: the logits at those others must stay as they are.

    Tried on the model as it will train, on every rank: with its kernels (not compiled), precision and sharding.

    Args:
        trainer: Holds the model where it will train.
        vocab_size: Token ids are below it.
        seq_len: Tokens in a sample.
        document_end: The token that ends a document, where documents must not see each other.

    Raises:
        InputError: They move, or the model fails as soon as it is called.
    """
    length = min(LENGTH, seq_len)
    if length >= 2 and vocab_size >= 2:
        _refuse_not_causal(trainer.state, vocab_size, length)
    if document_end is not None and length >= 4 and vocab_size >= 3:
        _refuse_open_documents(trainer.state, vocab_size, length, document_end)


def _refuse_not_causal(state: State, vocab_size: int, length: int) -> None:
    """Another last token must not move the logits before it."""
    tokens = _random_tokens(vocab_size, length)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1 + vocab_size // 2) % vocab_size
    before, after = (
        _logits(state, {'input_ids': one, 'attention_mask': torch.ones_like(one)})[:, :-1]
        for one in (tokens, other)
    )
    if _moves(before, after):
        raise InputError(
            f'The model ({_name(state)}) is not causal: another last token moves the logits before it, so '
            'that it sees what it should predict. Take a causal language model, or '
            "make this one a decoder (BERT's kin: model.config.is_decoder=true)."
        )


def _refuse_open_documents(state: State, vocab_size: int, length: int, document_end: int) -> None:
    """Other tokens in the first of two documents must not move the logits in the second."""
    last = length // 2 - 1
    # None of them ends a document.
    tokens = (_random_tokens(vocab_size - 1, length) + document_end + 1) % vocab_size
    tokens[0, last] = document_end
    other = tokens.clone()
    other[0, :last] = _another(tokens[0, :last], document_end, vocab_size)
    before, after = (
        _logits(state, causal_lm_inputs({'tokens': one}, document_end=document_end))[:, last + 1 :]
        for one in (tokens, other)
    )
    if _moves(before, after):
        raise InputError(
            f'`mask_documents`: the model ({_name(state)}) does not keep documents apart, since it takes no '
            'position ids or its attention does not look at them; take false, or a model such as Llama or GPT-NeoX.'
        )


def _random_tokens(below: int, length: int) -> torch.Tensor:
    return torch.randint(below, (1, length), generator=torch.Generator().manual_seed(0))


def _another(tokens: torch.Tensor, document_end: int, vocab_size: int) -> torch.Tensor:
    """For each token the next one that does not end a document."""
    following = (tokens + 1) % vocab_size
    return torch.where(following == document_end, (tokens + 2) % vocab_size, following)


def _logits(state: State, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != 'labels'}
    was_training = state.model.training
    state.model.eval()
    try:
        # So short a sample is compiled for nothing.
        with (
            torch.compiler.set_stance('force_eager'),
            torch.no_grad(),
            get_precision_context(state.precision, state.precision_config),
        ):
            return state.model(state.device.batch_to_device(inputs)).logits
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the code of a model raises
        raise InputError(
            f'The model cannot be called as `model` has it: {type(error).__name__}: {first_line(error)}'
        ) from error
    finally:
        state.model.train(was_training)


def _moves(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether logits [1, tokens, vocabulary] differ by more than rounding."""
    rounding = _ROUNDING if before.dtype == torch.float32 else _ROUNDING_OF_LESS
    moved = (after.float() - before.float()).abs().max()
    return bool(moved > rounding * before.float().abs().max())


def _name(state: State) -> str:
    return type(getattr(state.model, 'model', state.model)).__name__
