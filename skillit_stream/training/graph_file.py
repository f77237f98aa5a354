"""The skills graph that a run has learned by itself, in its folder."""

from pathlib import Path

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from skillit_stream.base.files import read_json, write_json
from skillit_stream.mixture.measuring import MeasuringPolicy
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.run_files import ABOUT, LEARNED


class GraphFile(Callback):
    """Writes graph.json, and the graph into run.json, as soon as there is one; DataMixing has learned it by then.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._is_written = False

    def fit_start(self, state: State, logger: Logger) -> None:
        """Write one that was learned before training, or before the run was stopped."""
        del logger
        self._write(state)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Write one that was learned after the round."""
        del logger
        self._write(state)

    def _write(self, state: State) -> None:
        if self._is_written or dist.get_global_rank() != 0:
            return
        [driver] = [one.driver for one in state.algorithms if isinstance(one, DataMixing)]
        policy = driver.policy
        if isinstance(policy, MeasuringPolicy) and policy.graph is not None:
            policy.graph.save(self._folder / LEARNED)
            about = read_json(self._folder / ABOUT)
            write_json(self._folder / ABOUT, {**about, 'graph': policy.graph.to_dict()})
            self._is_written = True
