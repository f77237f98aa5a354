"""Tiny runs for the tests of the training side: streams of the addition corpus, a model of one layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from composer import Trainer
from composer.core import Evaluator
from composer.utils import reproducibility
from streaming import Stream
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from skillit_stream import DataMixing, MixturePolicy, SkillLossModel, SkillStreamingDataset, collate
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.training.config import ModelConfig
from skillit_stream.training.evaluation import build_evaluators, token_data_spec
from skillit_stream.training.models import LOSS_METRIC, build_model
from skillit_stream.training.sample_log import SampleLog

SKILLS = ('digit_0', 'digit_1', 'digit_2')
TRAIN_SAMPLES, EVAL_SAMPLES = 300, 41
VOCABULARY = 20
# Rounds of 6 steps; 41 eval samples divide neither by the eval batch nor over two ranks.
ROUND, BATCH, EVAL_BATCH = 24, 4, 7
STEPS = ROUND // BATCH
LLAMA = {
    'model_type': 'llama',
    'hidden_size': 16,
    'intermediate_size': 32,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'num_key_value_heads': 2,
    'max_position_embeddings': 32,
    'tie_word_embeddings': True,
}


def settings(streams: Path, run: Path) -> dict[str, Any]:
    """The keys of a tiny run: two rounds of six steps, Skill-It, evaluation at the end of rounds."""
    return {
        'streams': str(streams),
        'run_name': 'tiny',
        'save_folder': str(run),
        'max_duration': '2ep',
        'seed': 3,
        'device': 'cpu',
        'global_train_batch_size': BATCH,
        'model': {'config': dict(LLAMA), 'init': 'fan_in'},
        'train_loader': {'round_size': ROUND},
        'eval_loader': {'batch_size': EVAL_BATCH},
        'optimizer': {'name': 'adamw', 'lr': 0.01},
        'algorithms': {'data_mixing': {'policy': 'skill_it', 'graph': 'streams', 'eta': 0.5}},
        'callbacks': {'sample_log': {'folder': str(run / 'samples')}},
        'progress_bar': False,
    }


def shrunk(streams: Path, run: Path, rounds: int) -> list[str]:
    """Overrides that make any YAML of the addition corpus a run of seconds: rounds of four steps of 8 samples."""
    model = {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1}
    model |= {'num_attention_heads': 2, 'num_key_value_heads': 2}
    overrides = {
        'streams': streams,
        'save_folder': run,
        'max_duration': f'{rounds}ep',
        'train_loader.round_size': 32,
        'global_train_batch_size': 8,
        'device': 'cpu',
        'progress_bar': 'false',
        'loggers': '{}',
        **{f'model.config.{name}': value for name, value in model.items()},
    }
    return [f'{key}={value}' for key, value in overrides.items()]


def write_yaml(path: Path, keys: Mapping[str, Any]) -> Path:
    """Write a training YAML and return its path."""
    path.write_text(yaml.safe_dump(dict(keys), sort_keys=False))
    return path


def tiny_model(streams: Path, *, vocab_size: int = VOCABULARY, seed: int = 5) -> SkillLossModel:
    """A Llama of one layer and width 16; the same weights for the same seed."""
    reproducibility.seed_all(seed)
    tokenizer = AutoTokenizer.from_pretrained(str(streams / 'tokenizer'))
    return build_model(ModelConfig(config=dict(LLAMA), init='fan_in'), tokenizer, vocab_size)


def tiny_evaluators(streams: Path, skills: Sequence[str] = SKILLS, **options: Any) -> list[Evaluator]:
    """One evaluator a skill, as a script of one's own makes them."""
    evals = EvalStreams({skill: Stream(local=str(streams / skill), split='eval') for skill in skills})
    options = {'batch_size': EVAL_BATCH, 'metric_names': [LOSS_METRIC], **options}
    return build_evaluators(evals, **options)


def tiny_dataset(streams: Path, skills: Sequence[str] = SKILLS, **options: Any) -> SkillStreamingDataset:
    """The train streams, rounds of 24 samples, 4 a batch."""
    return SkillStreamingDataset(
        streams={skill: Stream(local=str(streams / skill), split='train') for skill in skills},
        **{'round_size': ROUND, 'batch_size': BATCH, 'shuffle_seed': 11, **options},
    )


def tiny_trainer(
    streams: Path,
    policy: MixturePolicy,
    run: Path,
    *,
    dataset: Any = None,
    evaluators: list[Evaluator] | None = None,
    model: Any = None,
    workers: int = 0,
    **options: Any,
) -> Trainer:
    """A plain Composer Trainer put together by hand: no YAML, none of the builders.

    Args:
        streams: Of the addition corpus.
        policy: Drives the mixture.
        run: Gets ``mixture.jsonl`` and ``samples/``.
        dataset: None: `tiny_dataset`.
        evaluators: None: `tiny_evaluators`.
        model: None: `tiny_model`.
        workers: DataLoader workers.
        **options: Change or add arguments of the Trainer.
    """
    dataset = tiny_dataset(streams) if dataset is None else dataset
    loader = DataLoader(
        dataset, batch_size=BATCH, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )
    model = tiny_model(streams) if model is None else model
    callbacks = [SampleLog(str(run / 'samples')), *options.pop('callbacks', [])]
    defaults = {
        'train_dataloader': token_data_spec(loader),
        'algorithms': [DataMixing(policy, log_path=run / 'mixture.jsonl')],
        'max_duration': '3ep',
        'device': 'cpu',
        'progress_bar': False,
        'seed': 5,
        'run_name': 'tiny',
    }
    return Trainer(
        model=model,
        eval_dataloader=tiny_evaluators(streams) if evaluators is None else evaluators,
        optimizers=AdamW(model.parameters(), lr=0.01),
        callbacks=callbacks,
        **{**defaults, **options},
    )


def fit(trainer: Trainer, *, evaluate_first: bool = False) -> None:
    """Train to the end and close, whatever happens."""
    try:
        if evaluate_first:
            trainer.eval()
        trainer.fit()
    finally:
        trainer.close()
