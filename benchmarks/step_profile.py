"""Where the time of a training step goes: the kernels of a device by what they are for, and the rest."""

from collections.abc import Iterable
from typing import Any

# What a kernel's name holds -> what it is for; the first that fits counts.
PURPOSES = {
    'compiled pointwise': ('triton_',),
    'attention': ('flash', 'fmha', 'sdpa', 'attention', 'softmax', 'cudnn::fusion'),
    'loss': ('cross_entropy', 'nll_loss', 'log_softmax'),
    'optimizer': ('multi_tensor', 'adam', 'foreach', 'addcdiv', 'lpnorm'),
    'matrix products': ('gemm', 'nvjet', 'cutlass', 'xmma', 'cublas', 'addmm', '::mm', '::bmm', 'matmul'),
    'norms, rotary, SwiGLU of Liger': ('rms_norm', 'layer_norm', 'rope', 'swiglu'),
    'copies between host and device': ('memcpy htod', 'memcpy dtoh'),
    'casts and copies': ('memcpy', 'copy', 'memset', 'fill'),
    'other pointwise': ('elementwise', 'reduce', 'cat', 'index', 'embedding', 'aten::'),
}
# Ranges of the host that the profiler repeats on the device, over kernels that it lists as well.
RANGES = ('optimizer.step', 'profilerstep', 'compiled region', 'compiledfunction', 'nccl:')
IDLE, OTHER = 'nothing runs', 'other'
# Steps before the one that is profiled, in the same call of `fit`.
BEFORE = 2
LONGEST = 25


def of(trainer: Any, device: str) -> dict[str, Any]:
    """Train a few more steps and profile the last one.

    Returns:
        ``step``, milliseconds of the profiled step; ``by_purpose``, milliseconds of its kernels by what they are for,
        with those in which nothing runs; ``kernels``, the longest [name, calls, milliseconds]. On a CPU the operators
        stand for kernels.
    """
    from composer.core import Callback, Event, State
    from composer.loggers import Logger
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if device == 'gpu' else ProfilerActivity.CPU
    profiler = profile(activities=[activity])
    done = int(trainer.state.timestamp.batch)

    class OfOneStep(Callback):
        def run_event(self, event: Event, state: State, logger: Logger) -> None:
            del logger
            # Before the loader is asked, as a step is timed.
            if event == Event.BEFORE_DATALOADER and int(state.timestamp.batch) == done + BEFORE:
                profiler.start()
            if event == Event.BATCH_END and int(state.timestamp.batch) == done + BEFORE + 1:
                profiler.stop()

    trainer.state.callbacks.append(OfOneStep())
    trainer.fit(duration=f'{BEFORE + 1}ba')
    spans = [
        (event.name, float(event.time_range.start), float(event.time_range.end))
        for event in profiler.events() or ()
        if device == 'cpu' or 'CUDA' in str(event.device_type)
        if not any(part in event.name.lower() for part in RANGES)
    ]
    return summary(spans)


def summary(spans: Iterable[tuple[str, float, float]]) -> dict[str, Any]:
    """As :func:`of` returns it, from (kernel's name, start, end), in microseconds.

    Where several run at once, the first to start counts until it ends.
    """
    by_purpose: dict[str, float] = {}
    by_name: dict[str, tuple[int, float]] = {}
    ordered = sorted((start, end, name) for name, start, end in spans)
    if not ordered:
        return {'step': 0.0, 'by_purpose': {}, 'kernels': []}
    reached = begin = ordered[0][0]
    for start, end, name in ordered:
        if start > reached:
            by_purpose[IDLE] = by_purpose.get(IDLE, 0.0) + start - reached
        own = max(0.0, end - max(start, reached))
        purpose = purpose_of(name)
        by_purpose[purpose] = by_purpose.get(purpose, 0.0) + own
        calls, so_far = by_name.get(name, (0, 0.0))
        by_name[name] = calls + 1, so_far + own
        reached = max(reached, end)
    longest = sorted(by_name.items(), key=lambda item: -item[1][1])[:LONGEST]
    return {
        'step': (reached - begin) / 1e3,
        'by_purpose': {name: took / 1e3 for name, took in sorted(by_purpose.items(), key=lambda i: -i[1])},
        'kernels': [[name[:120], calls, took / 1e3] for name, (calls, took) in longest],
    }


def purpose_of(kernel: str) -> str:
    """What a kernel is for, by its name."""
    lowered = kernel.lower()
    fits = (purpose for purpose, parts in PURPOSES.items() if any(part in lowered for part in parts))
    return next(fits, OTHER)
