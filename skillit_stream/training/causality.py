"""A model that sees what it should not passes for a very good one: whether it does is tried before it is trained."""

from collections.abc import Mapping

import torch
from composer import Trainer
from composer.core import State, get_precision_context

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import causal_lm_inputs

LENGTH = 16  # tokens of what is tried
# Largest move of logits that should stay, as a part of the largest: what rounding makes of the same numbers.
_ROUNDING, _ROUNDING_OF_LESS = 1e-4, 1e-2


def refuse_not_causal(trainer: Trainer, *, vocab_size: int, seq_len: int) -> None:
    """Change the last token of a sample: the logits at earlier positions must stay as they are.

    Tried on the model as it will train, on every rank: with its kernels (not compiled), precision and sharding.

    Args:
        trainer: Holds the model where it will train.
        vocab_size: Token ids are below it.
        seq_len: Tokens in a sample.

    Raises:
        InputError: They move.
    """
    length = min(LENGTH, seq_len)
    if length < 2 or vocab_size < 2:
        return
    tokens = _random_tokens(vocab_size, length)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1 + vocab_size // 2) % vocab_size
    before, after = (
        _logits(trainer.state, {'input_ids': one, 'attention_mask': torch.ones_like(one)})[:, :-1]
        for one in (tokens, other)
    )
    if _moves(before, after):
        raise InputError(
            f'The model ({_name(trainer.state)}) is not causal: another last token moves the logits before it, so '
            'that it sees what it should predict. Take a causal language model, or '
            "make this one a decoder (BERT's kin: model.config.is_decoder=true)."
        )


def refuse_open_documents(trainer: Trainer, *, vocab_size: int, seq_len: int, document_end: int) -> None:
    """Change the first of two documents in a sample: the logits in the second must stay as they are.

    Tried as :func:`refuse_not_causal` does.

    Args:
        trainer: Holds the model where it will train.
        vocab_size: Token ids are below it.
        seq_len: Tokens in a sample.
        document_end: The token that ends a document.

    Raises:
        InputError: They move: the model does not tell documents apart by their positions.
    """
    length = min(LENGTH, seq_len)
    if length < 4 or vocab_size < 3:
        return
    last = length // 2 - 1
    # None of them ends a document.
    tokens = (_random_tokens(vocab_size - 1, length) + document_end + 1) % vocab_size
    tokens[0, last] = document_end
    other = tokens.clone()
    other[0, :last] = _another(tokens[0, :last], document_end, vocab_size)
    before, after = (
        _logits(trainer.state, causal_lm_inputs({'tokens': one}, document_end=document_end))[:, last + 1 :]
        for one in (tokens, other)
    )
    if _moves(before, after):
        raise InputError(
            f'`mask_documents`: the model ({_name(trainer.state)}) does not keep documents apart, since it takes no '
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
    finally:
        state.model.train(was_training)


def _moves(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether logits [1, tokens, vocabulary] differ by more than rounding."""
    rounding = _ROUNDING if before.dtype == torch.float32 else _ROUNDING_OF_LESS
    moved = (after.float() - before.float()).abs().max()
    return bool(moved > rounding * before.float().abs().max())


def _name(state: State) -> str:
    return type(getattr(state.model, 'model', state.model)).__name__
