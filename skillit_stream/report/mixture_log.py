"""mixture.jsonl as a report needs it: with a finished round in it."""

from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RecordedRounds, read_rounds


def read_mixture_log(path: Path) -> RecordedRounds:
    """Read a mixture.jsonl; rounds before the first one there may be missing.

    Args:
        path: The file. Its last line may break off; any other broken line is an error.

    Raises:
        InputError: The file is missing or empty, a line is not a round, or no round is complete.
    """
    log = read_rounds(path)
    if not log.records and not log.half_written:
        raise InputError(f'{path} is empty: no round has ended yet; train on, or leave this run out')
    if not any(record.round >= 0 for record in log.records):
        raise InputError(f'{path} holds no finished round: train on, or leave this run out')
    return log
