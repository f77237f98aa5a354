"""How training went, round by round: training loss, learning rate, throughput, and the passes over each stream."""

from collections.abc import Callable, Sequence

from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.report.methods import (
    LEARNING_RATE,
    PASSES,
    SAMPLES,
    TOKENS,
    TRAIN_LOSS,
    Curve,
    Method,
)
from skillit_stream.report.views import LossPanel, chosen_panels, loss_panel


def training_panels(methods: Sequence[Method]) -> list[LossPanel]:
    """Training loss, learning rate, throughput: a panel of each that any run logged, a line a method."""
    by_tokens = any(
        record.trained and record.trained.tokens
        for method in methods
        for run in method.runs
        for record in run.rounds
    )
    values: dict[str, Callable[[RoundRecord], float | None]] = {
        TRAIN_LOSS: lambda record: record.trained.loss if record.trained else None,
        LEARNING_RATE: lambda record: record.trained.learning_rate if record.trained else None,
        **({TOKENS: _tokens_a_second} if by_tokens else {SAMPLES: _samples_a_second}),
    }
    panels = [
        loss_panel(figure, [method.round_curve(value) for method in methods], figure)
        for figure, value in values.items()
    ]
    return [panel for panel in panels if panel.curves]


def _tokens_a_second(record: RoundRecord) -> float | None:
    seconds = record.seconds - record.eval_seconds
    tokens = record.trained.tokens if record.trained else 0
    return tokens / seconds if tokens and seconds > 0 else None


def _samples_a_second(record: RoundRecord) -> float | None:
    seconds = record.seconds - record.eval_seconds
    return sum(record.samples.values()) / seconds if record.samples and seconds > 0 else None


def passes_panels(methods: Sequence[Method]) -> list[LossPanel]:
    """Passes over each skill's stream since the start, a line a method; of many skills those that differ most."""
    skills = list(dict.fromkeys(skill for method in methods for skill in method.train_skills))

    def curves(of: Sequence[str]) -> list[Curve | None]:
        return [method.round_curve(lambda record: record.passes.get(of[0])) for method in methods]

    return chosen_panels(skills, (), curves, PASSES)
