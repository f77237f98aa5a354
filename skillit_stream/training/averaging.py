"""EMA: Composer's exponential moving average of the weights, fit for rounds and for any number of ranks.

Evaluations and checkpoints are of the averaged weights, so the losses that a policy sees are theirs, and what is
exported is the averaged model. A checkpoint has the trained weights beside it: whoever goes on trains on these.
"""

from typing import Any

import torch
from composer import algorithms
from composer.core import Event, State
from composer.loggers import Logger

from skillit_stream.base.errors import InputError
from skillit_stream.training.intervals import read_time

# What wrapping the model (DDP, torch.compile) puts before the names of its parameters.
_WRAPPERS = ('module.', '_orig_mod.')
_AVERAGED = ('named_parameters_dict', 'named_buffers_dict')


class EMA(algorithms.EMA):
    """Composer's EMA: after step t the average is ``smoothing * average + (1 - smoothing) * weights``.

    Composer's own mixes the averaged weights into themselves where a checkpoint was written just before an update at
    the end of a round, and its state fits only a run on as many ranks (one, or several) as wrote it. It averages
    buffers too, which in a language model are constants (the frequencies of rotary embeddings): rounding moves them.

    Args:
        half_life: Time string in `ba` or `ep` (rounds) after which a term of the average has lost half of its weight;
            None: 1000ba, unless there is a `smoothing`.
        smoothing: Weight of the average in an update, between 0 and 1, instead of a half-life.
        ema_start: Time string before which nothing is averaged.
        update_interval: Time string between updates, in the unit of `half_life`; None: one of that unit, or 1ba.

    Raises:
        InputError: An option is not of this kind.
    """

    def __init__(
        self,
        half_life: str | None = None,
        smoothing: float | None = None,
        ema_start: str = '0.0dur',
        update_interval: str | None = None,
    ) -> None:
        where = 'algorithms.ema'
        if smoothing is None:
            half_life = half_life or '1000ba'
            read_time(f'{where}.half_life', half_life)
        elif isinstance(smoothing, bool) or not isinstance(smoothing, float) or not 0 < smoothing < 1:
            raise InputError(f'`{where}.smoothing` must be between 0 and 1, but got: {smoothing!r}.')
        else:
            # Composer's own looks for a half-life where there is no interval.
            update_interval = update_interval or '1ba'
        read_time(f'{where}.ema_start', ema_start, least=0)
        if update_interval is not None:
            read_time(f'{where}.update_interval', update_interval)
        super().__init__(half_life, smoothing, ema_start, update_interval)

    def match(self, event: Event, state: State) -> bool:
        """As Composer's; the names of what was averaged or loaded are first made those of the model."""
        if event in self.move_device_events and self.ema_started:
            self._fit_names(state.model)
        matched = super().match(event, state)
        self._leave_out_buffers()
        return matched

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """As Composer's; what goes into the average are the trained weights."""
        if event == self.update_event:
            # A checkpoint of the round's last step has left the averaged ones in the model.
            self._ensure_training_weights_active(state)
        super().apply(event, state, logger)
        self._leave_out_buffers()

    def state_dict(self) -> dict[str, Any]:
        """As Composer's, the names free of what wraps the model."""
        saved = super().state_dict()
        saved['ema_model'] = {
            kind: {_bare(name): tensor for name, tensor in saved['ema_model'][kind].items()}
            for kind in _AVERAGED
        }
        return saved

    def _leave_out_buffers(self) -> None:
        if self.ema_model is not None:
            self.ema_model.named_buffers_dict = {}

    def _fit_names(self, model: torch.nn.Module) -> None:
        names = {_bare(name): name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
        for kind in _AVERAGED:
            averaged = getattr(self.ema_model, kind)
            setattr(self.ema_model, kind, {names[_bare(name)]: one for name, one in averaged.items()})


def _bare(name: str) -> str:
    while wrapper := next((one for one in _WRAPPERS if name.startswith(one)), None):
        name = name.removeprefix(wrapper)
    return name
