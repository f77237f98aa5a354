"""Ranks of one job, forked from this process: what each of them plays, or is refused."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import distributed

from skillit_stream.base.errors import InputError
from tests.support.launching import WORLD_VARIABLES

PATIENCE = 60


def by_forked_ranks(
    play: Callable[[int], Any],
    ranks: int = 2,
    *,
    environment: Callable[[int], dict[str, Any]] = lambda rank: {},
    has_group: bool = True,
) -> list[Any]:
    """What a function gives on every rank, or the text of the InputError or RuntimeError that it raises there.

    Args:
        play: Called with the rank.
        ranks: How many are forked.
        environment: What the launcher sets for a rank; none of its variables are there else.
        has_group: Whether each rank begins with a process group.
    """
    context = multiprocessing.get_context('fork')
    with TemporaryDirectory() as folder:

        def run(rank: int, answers: Any) -> None:
            for name in WORLD_VARIABLES:
                os.environ.pop(name, None)
            os.environ.update({name: str(value) for name, value in environment(rank).items()})
            if has_group:
                store = f'file://{Path(folder, "store")}'
                distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=ranks)
            try:
                answer = play(rank)
            except (InputError, RuntimeError) as error:
                answer = str(error)
            answers.send(answer)

        pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
        processes = [
            context.Process(target=run, args=(rank, sender)) for rank, (_, sender) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        try:
            return [receiver.recv() if receiver.poll(PATIENCE) else 'no answer' for receiver, _ in pipes]
        finally:
            for process in processes:
                process.join(5)
                process.kill()
