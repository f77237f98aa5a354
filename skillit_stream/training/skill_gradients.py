"""Products of the skills' gradients of the model that Composer trains."""

from typing import Any

from composer.core import State, get_precision_context

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalSamples
from skillit_stream.mixing.gradients import Products, gradient_products
from skillit_stream.mixing.stopwatch import Stopwatch
from skillit_stream.mixture import MixturePolicy

SAMPLES = 8
"""Of each skill; of its eval split the first."""


def gradients_for(
    policy: MixturePolicy, state: State, document_end: int | None, watch: Stopwatch
) -> Products | None:
    """Products of gradients where a policy asks for them; the watch, that of the evaluation, has their time."""
    if not policy.needs_gradients:
        return None
    watch.start()
    products = gradients_of_state(state, document_end)
    watch.stop()
    return products


def gradients_of_state(state: State, document_end: int | None) -> Products:
    """Products of gradients of the skills that the state's evaluators evaluate; see :func:`gradient_products`.

    Raises:
        InputError: No evaluator is one of `EvalStreams`, or the model has no gradients by skill.
    """
    loaders = [one.dataloader.dataloader for one in state.evaluators]
    samples = [getattr(loader, 'dataset', None) for loader in loaders]
    found = next((one for one in samples if isinstance(one, EvalSamples)), None)
    if found is None:
        raise InputError(
            'The policy needs gradients by skill, which are taken on the eval streams: make the evaluators with '
            'skill_evaluator or build_evaluators.'
        )
    network: Any = state.model
    network = getattr(network, 'module', network)
    with get_precision_context(state.precision, state.precision_config):
        return gradient_products(
            getattr(network, 'model', network),
            found.streams,
            samples_per_skill=SAMPLES,
            document_end=document_end,
        )
