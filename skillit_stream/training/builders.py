"""From a configuration to a Composer Trainer."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from composer import Trainer
from composer.core import Evaluator, Time, TimeUnit
from composer.models import HuggingFaceModel
from composer.utils import dist, get_device, reproducibility
from streaming import Stream
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skillit_stream.errors import InputError, blaming
from skillit_stream.mixture import MixturePolicy, SkillsGraph, build_policy
from skillit_stream.streams.batches import collate
from skillit_stream.streams.dataset import SkillStreamingDataset
from skillit_stream.streams.manifest import Manifest
from skillit_stream.training.checkpoints import loading_arguments
from skillit_stream.training.config import Options, TrainConfig, dump_config, nearest
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.evaluation import EvalStreams, build_evaluators, token_data_spec
from skillit_stream.training.mixture_log import MixtureLog
from skillit_stream.training.models import LOSS_METRIC, build_model
from skillit_stream.training.parts import build_callbacks, build_loggers, build_optimizer, build_scheduler

RUN_VERSION = 1


@dataclass
class Run:
    """What a run is made of, ready to fit."""

    trainer: Trainer
    dataset: SkillStreamingDataset
    resumed: bool


@dataclass
class Material:
    """What is trained and evaluated: one set of it serves several Trainers, one after the other."""

    dataset: SkillStreamingDataset
    model: HuggingFaceModel
    evaluators: list[Evaluator]


def build_run(config: TrainConfig) -> Run:
    """Check everything that can be checked before a model is built, then build the run.

    Raises:
        InputError: Something in the configuration, the streams or the graph does not fit.
    """
    _check_times(config)
    manifest = Manifest.load(config.streams)
    skills, eval_skills = chosen_skills(config, manifest)
    sizes = {skill: manifest.skills[skill].splits['train'].samples for skill in skills}
    policy, graph = _policy(config, sizes, eval_skills, seq_len=manifest.seq_len)
    _check_evaluated(policy, eval_skills)
    if dist.get_world_size() > 1:
        # One process group for the whole run. Left to itself, each StreamingDataset makes one and destroys
        # it again, and ranks that do so out of step wait for each other for ever.
        dist.initialize_dist(get_device(config.device))
    loading = loading_arguments(config, _checkpoint_folder(config))
    _prepare_folder(config)
    material = build_material(config, manifest, skills, eval_skills)
    dataset = material.dataset
    parts = {**_parts(config, material, policy), **loading}
    with blaming('Composer refused the run', OSError, ImportError, RuntimeError, AssertionError):
        trainer = Trainer(**parts)
    # Only now: a checkpoint brings its own seed and canonical nodes, and the run folder must say those.
    _write_run_files(config, dataset, policy, graph)
    return Run(trainer, dataset, resumed=int(trainer.state.timestamp.batch) > 0)


def build_material(
    config: TrainConfig, manifest: Manifest, skills: list[str], eval_skills: list[str]
) -> Material:
    """Dataset, model and evaluators, after seeding: the same configuration gives the same weights.

    Raises:
        InputError: Something in the configuration or the streams does not fit.
    """
    reproducibility.seed_all(config.seed)
    tokenizer = _tokenizer(config)
    dataset = build_dataset(config, skills)
    model = build_model(config.model, tokenizer, manifest.vocab_size)
    evaluators = build_evaluators(
        EvalStreams(_open(config.streams, eval_skills, 'eval')),
        batch_size=config.eval_loader.batch_size or int(dataset.batch_size or 1),
        metric_names=[LOSS_METRIC],
        eval_interval=config.eval_interval,
        subset_num_batches=config.eval_loader.subset_num_batches,
    )
    return Material(dataset, model, evaluators)


def device_parts(config: TrainConfig, material: Material) -> dict[str, Any]:
    """The arguments of Composer's Trainer that are about model, data, device and precision: fresh for each."""
    with blaming('`train_loader` is not one that a DataLoader takes'):
        loader = token_data_spec(build_loader(config, material.dataset))
    return dict(
        model=material.model,
        train_dataloader=loader,
        optimizers=build_optimizer(config.optimizer, material.model.parameters()),
        schedulers=build_scheduler(config.scheduler),
        device=config.device,
        precision=config.precision,
        device_train_microbatch_size=_microbatch(config, material.dataset),
        # A sample of few target tokens weighs as much on its own rank or in its own microbatch as elsewhere.
        accumulate_train_batch_on_tokens=True,
        seed=config.seed,
    )


def _parts(config: TrainConfig, material: Material, policy: MixturePolicy) -> dict[str, Any]:
    """The arguments of Composer's Trainer."""
    return dict(
        **device_parts(config, material),
        eval_dataloader=material.evaluators,
        max_duration=config.max_duration,
        algorithms=[_mixing(config, policy)],
        callbacks=build_callbacks(config.callbacks),
        loggers=build_loggers(config.loggers),
        run_name=config.run_name,
        save_folder=_checkpoint_folder(config),
        save_interval=config.save_interval,
        save_num_checkpoints_to_keep=config.save_num_checkpoints_to_keep,
        parallelism_config={'fsdp': config.fsdp_config} if config.fsdp_config else None,
        progress_bar=config.progress_bar,
        log_to_console=config.log_to_console,
    )


def _check_times(config: TrainConfig) -> None:
    """Before Composer reads them: it makes folders first."""
    for key in ('max_duration', 'eval_interval', 'save_interval'):
        with blaming(f'`{key}` must be a time string such as 10ep or 1000ba'):
            Time.from_timestring(getattr(config, key))


def _checkpoint_folder(config: TrainConfig) -> str:
    return str(Path(config.save_folder) / 'checkpoints')


def _mixing(config: TrainConfig, policy: MixturePolicy) -> DataMixing:
    log = Path(config.save_folder) / 'mixture.jsonl'
    return DataMixing(policy, warn_passes=config.train_loader.warn_passes, log_path=log)


def chosen_skills(config: TrainConfig, manifest: Manifest) -> tuple[list[str], list[str]]:
    """The skills to train on and those to evaluate.

    Raises:
        InputError: The configuration names one that the streams do not have.
    """
    train = _chosen('train', config.train_loader.skills, manifest)
    return train, _chosen('eval', config.eval_loader.skills, manifest)


def _chosen(split: str, names: list[str] | None, manifest: Manifest) -> list[str]:
    """The skills of a loader: those that are named, or all that have its split."""
    known = [skill for skill, info in manifest.skills.items() if split in info.splits]
    if not known:
        raise InputError(f'The streams have no {split} split of any skill: convert the corpus with one.')
    for name in names or ():
        if name in manifest.skills and name not in known:
            raise InputError(
                f'`{split}_loader.skills` names skill {name!r}, but it has no {split} split: leave it out.'
            )
        if name not in known:
            raise InputError(
                f'`{split}_loader.skills` names skill {name!r}, but the streams have none: {nearest(name, known)}'
            )
    return list(names) if names else known


def _policy(
    config: TrainConfig, sizes: dict[str, int], eval_skills: list[str], *, seq_len: int
) -> tuple[MixturePolicy, SkillsGraph | None]:
    unknown = [name for name in config.algorithms if name != 'data_mixing']
    if unknown:
        raise InputError(f'`algorithms.{unknown[0]}`: the only algorithm of a YAML is data_mixing.')
    options: Options = dict(config.algorithms.get('data_mixing') or {'policy': 'proportional'})
    name = str(options.pop('policy', 'skill_it'))
    graph = named_graph(options.pop('graph', None), list(sizes), eval_skills, streams=config.streams)
    policy = build_policy(
        name,
        skills=list(sizes),
        eval_skills=eval_skills,
        graph=graph,
        sizes=sizes,
        rounds=rounds_of(
            Time.from_timestring(config.max_duration),
            round_size=config.train_loader.round_size,
            batch_size=config.global_train_batch_size,
            seq_len=seq_len,
        ),
        round_size=config.train_loader.round_size,
        **options,
    )
    return policy, graph


def rounds_of(duration: Time, *, round_size: int, batch_size: int, seq_len: int | None) -> int | None:
    """How many rounds a run has, the last one perhaps a part; None where that is not known beforehand.

    Args:
        duration: Of the run.
        round_size: Samples.
        batch_size: Samples in a step, all ranks together.
        seq_len: Tokens in a sample; None: a duration in tokens is not known in rounds.
    """
    if duration.unit == TimeUnit.EPOCH:
        return int(duration.value)
    samples = {TimeUnit.BATCH: int(duration.value) * batch_size, TimeUnit.SAMPLE: int(duration.value)}
    if seq_len:
        samples[TimeUnit.TOKEN] = -(-int(duration.value) // seq_len)
    drawn = samples.get(duration.unit)
    return None if drawn is None else -(-drawn // round_size)


def named_graph(
    source: Any, skills: list[str], eval_skills: list[str], *, streams: str | None = None
) -> SkillsGraph | None:
    """The graph that `graph:` names: a .json or .npy file, `identity`, or `streams`: the one in their folder.

    Raises:
        InputError: There is none, it cannot be read, or it is of other skills.
    """
    if source is None:
        return None
    if source == 'identity':
        return SkillsGraph.identity(skills)
    path = Path(streams) / 'graph.json' if source == 'streams' and streams else Path(str(source))
    names = {} if path.suffix == '.json' else {'train_skills': skills, 'eval_skills': eval_skills}
    graph = SkillsGraph.load(path, **names)
    graph.check_streams(skills, eval_skills)
    return graph


def _check_evaluated(policy: MixturePolicy, eval_skills: list[str]) -> None:
    for skill in policy.eval_skills:
        if skill not in eval_skills:
            raise InputError(
                f'The policy needs the loss of eval skill {skill}, but `eval_loader.skills` leaves it out: add it, '
                f'or take it out of the graph.'
            )


def _prepare_folder(config: TrainConfig) -> None:
    """Refuse to write over a run that is there."""
    log = MixtureLog(Path(config.save_folder) / 'mixture.jsonl')
    if config.autoresume:
        return
    # A run that was refused in its first round has left a log without rounds: nothing is lost with it.
    if log.last_round() >= 0 and not config.save_overwrite:
        raise InputError(
            f'There is a run in {config.save_folder} already: pass autoresume=true to go on with it, '
            f'save_overwrite=true to start over, or another save_folder.'
        )
    if dist.get_global_rank() == 0:
        log.path.unlink(missing_ok=True)


def _tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    name = config.tokenizer or str(Path(config.streams) / 'tokenizer')
    with blaming(
        f'`tokenizer`: none could be loaded from {name} (a hub name, or a folder that holds one)', OSError
    ):
        return AutoTokenizer.from_pretrained(name)


def _open(root: str, skills: list[str], split: str) -> dict[str, Stream]:
    return {skill: Stream(local=str(Path(root) / skill), split=split) for skill in skills}


def build_dataset(config: TrainConfig, skills: list[str]) -> SkillStreamingDataset:
    """The train streams of these skills as `train_loader` has them mixed."""
    ranks = dist.get_world_size()
    if config.global_train_batch_size % ranks:
        raise InputError(
            f'`global_train_batch_size` must divide evenly over the {ranks} ranks, but got: '
            f'{config.global_train_batch_size}.'
        )
    options = {'shuffle_seed': config.seed, **config.train_loader.dataset}
    with blaming('`train_loader.dataset` has an option that the dataset does not take'):
        return SkillStreamingDataset(
            streams=_open(config.streams, skills, 'train'),
            round_size=config.train_loader.round_size,
            batching=config.train_loader.batching,
            on_exhausted=config.train_loader.on_exhausted,
            on_changed=config.train_loader.on_changed,
            batch_size=config.global_train_batch_size // ranks,
            **options,
        )


def build_loader(config: TrainConfig, dataset: SkillStreamingDataset) -> DataLoader:
    """The DataLoader of `train_loader`."""
    workers = config.train_loader.num_workers
    return DataLoader(
        dataset,
        batch_size=dataset.batch_size,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=config.train_loader.prefetch_factor if workers else None,
        pin_memory=config.train_loader.pin_memory and torch.cuda.is_available(),
    )


def _microbatch(config: TrainConfig, dataset: SkillStreamingDataset) -> int | str:
    on_gpu = config.device == 'gpu' or (config.device is None and torch.cuda.is_available())
    if config.device_train_microbatch_size == 'auto' and not on_gpu:
        return int(dataset.batch_size or 1)
    return config.device_train_microbatch_size


def _write_run_files(
    config: TrainConfig, dataset: SkillStreamingDataset, policy: MixturePolicy, graph: SkillsGraph | None
) -> None:
    """The resolved YAML and what a reader of the run folder needs to know about the run."""
    if dist.get_global_rank() != 0:
        return
    folder = Path(config.save_folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        'version': RUN_VERSION,
        'name': config.run_name,
        'method': config.method or config.run_name,
        'policy': policy.describe(),
        'seed': config.seed,
        'dataset': dataset.describe(),
        'graph': graph.to_dict() if graph else None,
    }
    _replace(folder / 'config.yaml', dump_config(config))
    _replace(folder / 'run.json', json.dumps(about, indent=1))


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix('.tmp')
    scratch.write_text(text, encoding='utf-8')
    os.replace(scratch, path)
