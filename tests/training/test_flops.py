"""Operations of a step, by hand, and the MFU that SpeedMonitor makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from composer.callbacks import SpeedMonitor, speed_monitor
from composer.loggers import InMemoryLogger
from transformers import AutoConfig, AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from skillit_stream import StaticMixture
from skillit_stream.training.flops import TrainingFlops
from tests.support.training_runs import BATCH, LLAMA, SKILLS, STEPS, fit, tiny_model, tiny_trainer

# Attention 4 x 16 x 16, MLP 3 x 16 x 32, three norms of 16, head 20 x 16.
PARAMETERS = 1024 + 1536 + 48 + 320


def built(**changes: Any) -> Any:
    """The model of the tiny runs, with changes to its configuration."""
    options = {**LLAMA, 'vocab_size': 20, **changes}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop('model_type'), **options))


@pytest.mark.parametrize('tied', [True, False])
def test_the_table_of_inputs_does_not_count_and_the_head_does(tied: bool):
    flops = TrainingFlops.of(built(tie_word_embeddings=tied))
    assert flops == TrainingFlops(parameters=PARAMETERS, attention=1 * 2 * 8)


def test_attention_counts_query_heads_of_their_own_size():
    flops = TrainingFlops.of(built(num_hidden_layers=3, num_key_value_heads=1, head_dim=4))
    assert flops is not None
    assert flops.attention == 3 * 2 * 4


@pytest.mark.parametrize('column', ['tokens', 'input_ids'])
def test_a_batch_by_hand(column: str):
    flops = TrainingFlops.of(built())
    assert flops is not None
    # Four sequences of ten tokens: 6 N + 12 L H Q T a token.
    assert flops({column: torch.zeros(4, 10)}) == 40 * (6 * PARAMETERS + 12 * 16 * 10)


def test_a_model_without_attention_is_not_counted():
    config = MambaConfig(vocab_size=20, hidden_size=8, state_size=2, num_hidden_layers=1)
    assert TrainingFlops.of(MambaForCausalLM(config)) is None


def test_speed_monitor_logs_mfu(streams: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed_monitor, 'get_gpu_flops_available', lambda state: 10**9)
    logged = InMemoryLogger()
    fit(
        tiny_trainer(
            streams,
            StaticMixture(dict.fromkeys(SKILLS, 1 / 3)),
            run_folder,
            callbacks=[SpeedMonitor(window_size=2)],
            loggers=[logged],
            max_duration='1ep',
        )
    )
    mfu, flops, batches = (
        [float(value) for _, value in logged.data[f'throughput/{name}']]
        for name in ('device/mfu', 'flops_per_sec', 'batches_per_sec')
    )
    assert len(mfu) == STEPS - 2
    assert mfu == pytest.approx([value / 1e9 for value in flops])
    # The samples of the addition corpus are of 17 tokens.
    each = tiny_model(streams).flops_per_batch({'tokens': torch.zeros(BATCH, 17)})
    assert flops == pytest.approx([each * value for value in batches])
