"""A model that sees the future passes for a very good one: whether it does is tried before it is trained."""

import torch
from composer import Trainer
from composer.core import get_precision_context

from skillit_stream.base.errors import InputError

LENGTH = 16  # tokens of what is tried
# Largest move of earlier logits, as a part of the largest logit: what rounding makes of the same numbers.
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
    state, device = trainer.state, trainer.state.device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (1, length), generator=generator)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1 + vocab_size // 2) % vocab_size
    was_training = state.model.training
    state.model.eval()
    try:
        # As short a sample is compiled for nothing.
        with (
            torch.compiler.set_stance('force_eager'),
            torch.no_grad(),
            get_precision_context(state.precision, state.precision_config),
        ):
            before, after = (
                state.model(
                    device.batch_to_device({'input_ids': one, 'attention_mask': torch.ones_like(one)})
                ).logits
                for one in (tokens, other)
            )
    finally:
        state.model.train(was_training)
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
