"""From a configuration to a Composer Trainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from composer import Trainer
from composer.core import Algorithm, Callback, Evaluator, Time, TimeUnit
from composer.utils import dist, get_device, reproducibility
from streaming import StreamingDataset
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_url
from skillit_stream.base.signatures import check_options
from skillit_stream.formats.manifest import Manifest
from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixture import MixturePolicy, SampleOrder
from skillit_stream.mixture.from_options import PolicyBuilder
from skillit_stream.training.causality import refuse_what_sees_too_much
from skillit_stream.training.checked_run import check_run
from skillit_stream.training.checkpoints import loading_arguments
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.evaluation import skill_evaluator, token_data_spec
from skillit_stream.training.fsdp import build_fsdp, mark_layers
from skillit_stream.training.graph_file import GraphFile
from skillit_stream.training.intervals import check_stoppers
from skillit_stream.training.kernels import Machine, on_gpu
from skillit_stream.training.live_branches import LiveBranches
from skillit_stream.training.models import build_model, check_length
from skillit_stream.training.parts import (
    build_algorithms,
    build_callbacks,
    build_loggers,
    build_optimizer,
    build_scheduler,
    check_parts,
)
from skillit_stream.training.progress import Progress
from skillit_stream.training.progress_text import RunPlan
from skillit_stream.training.resuming import resumption_of, take_over
from skillit_stream.training.run_files import (
    RunFilesUpload,
    about_run,
    checkpoint_folder,
    clear_run,
    prepare_folder,
    write_run_files,
)
from skillit_stream.training.run_policy import (
    builder_of_run,
    policy_name,
    run_units,
    stream_fraction,
)
from skillit_stream.training.skill_losses import SkillLossModel
from skillit_stream.training.skill_metrics import MeanSkillLoss, tokens_per_byte
from skillit_stream.training.streams_folder import (
    document_end_of,
    load_tokenizer,
    open_streams,
)

WORKERS_OF_A_GPU = 2


@dataclass
class Run:
    """What a run is made of, ready to fit."""

    trainer: Trainer
    dataset: SkillStreamingDataset
    resumed: bool
    evaluated: bool = True
    """Whether the policy has seen losses of the skills as they are."""
    finished: bool = False
    """Whether its checkpoint is that of its end: there is nothing left to train."""


@dataclass
class Material:
    """What is trained and evaluated: one set of it serves several Trainers, one after the other."""

    dataset: SkillStreamingDataset
    model: SkillLossModel
    evaluator: Evaluator
    document_end: int | None
    """The token that ends a document, where documents must not see each other."""


def build_run(config: TrainConfig) -> Run:
    """Check everything that can be checked before a model is built, then build the run.

    Raises:
        InputError: Something in the configuration, the streams or the graph does not fit.
    """
    sharding = build_fsdp(config.fsdp_config, config.device, config.device_train_microbatch_size)
    others = build_algorithms(config.algorithms, sharded=sharding is not None)
    checked = check_run(config)
    manifest, policy, eval_skills = checked.manifest, checked.policy, checked.eval_skills
    if dist.get_world_size() > 1:
        # One process group for the whole run. Left to itself, each StreamingDataset makes one and destroys
        # it again, and ranks that do so out of step wait for each other for ever.
        dist.initialize_dist(get_device(config.device), config.dist_timeout)
    check_parts(config)
    loading = loading_arguments(config, checkpoint_folder(config))
    resumption = resumption_of(config, loading, checked.graph)
    prepare_folder(config)
    material = build_material(config, manifest, checked.skills, eval_skills, orders=policy.sample_orders())
    plan = _plan(
        config, manifest, material, sizes=checked.sizes, eval_skills=eval_skills, loaded=loading['load_path']
    )
    forked = resumption is not None and resumption.forked
    build = builder_of_run(config, checked.sizes, eval_skills, seq_len=manifest.seq_len)
    mixing = _mixing(config, policy, material.document_end, build, begin_anew=forked)
    # Composer's console logger prints whole lines: a line that changes would be torn by them.
    progress = Progress(plan, bar=config.progress_bar and not config.log_to_console)
    parts = {**_parts(config, material, [mixing, *others], progress), **loading}
    options = dict(parts['optimizers'].param_groups[0])
    trained_metrics = material.model.get_metrics(is_train=True)
    check_stoppers(
        parts['callbacks'],
        {'train': list(trained_metrics), material.evaluator.label: material.evaluator.metric_names or []},
    )
    refusal = resumption.refusal() if resumption else 'Composer refused the run'
    with as_input_error(refusal, OSError, ImportError, RuntimeError, AssertionError):
        trainer = Trainer(**parts, parallelism_config=sharding)
    mixing.branches = branches = LiveBranches(trainer, config, material.document_end)
    if policy.needs_branches or policy.needs_short_runs:
        branches.check(policy)
    refuse_what_sees_too_much(trainer, manifest.vocab_size, manifest.seq_len, material.document_end)
    lines = take_over(trainer, mixing, options, resumption)
    if _is_finished(trainer, config, manifest.seq_len):
        return Run(trainer, material.dataset, resumed=True, finished=True)
    progress.changes = lines
    # Only now: a checkpoint brings its own seed and canonical nodes, and the run folder must say those.
    if dist.get_global_rank() == 0:
        clear_run(config)
        about = about_run(
            config, policy, checked.graph, material.dataset, kernels=material.model.kernels, plan=plan
        )
        write_run_files(config, about)
    return Run(
        trainer,
        material.dataset,
        resumed=int(trainer.state.timestamp.batch) > 0,
        evaluated=mixing.remembers and not material.dataset.changes,
    )


def _is_finished(trainer: Trainer, config: TrainConfig, seq_len: int) -> bool:
    """Whether the run that goes on ended where `max_duration` says.

    Raises:
        InputError: It has gone further, or what was loaded is not its own.
    """
    state = trainer.state
    elapsed, now = state.get_elapsed_duration(), state.timestamp
    if elapsed is None or elapsed.value < 1 or not now.batch.value:
        return False
    end, size = Time.from_timestring(config.max_duration), config.global_train_batch_size
    # A budget of samples or tokens ends inside its last step.
    step = {TimeUnit.SAMPLE: size, TimeUnit.TOKEN: size * seq_len}.get(end.unit, 1)
    within = end.unit == TimeUnit.EPOCH and now.batch_in_epoch.value
    if not config.autoresume or within or now.get(end.unit).value - step >= end.value:
        raise InputError(
            f'`max_duration` must be longer than what the run has trained, {now.batch.value} steps, but got: '
            f'{config.max_duration}.'
        )
    return True


def build_material(
    config: TrainConfig,
    manifest: Manifest,
    skills: list[str],
    eval_skills: list[str],
    *,
    orders: Mapping[str, SampleOrder] | None = None,
) -> Material:
    """Dataset, model and evaluator, after seeding: the same configuration gives the same weights.

    Raises:
        InputError: Something in the configuration or the streams does not fit.
    """
    reproducibility.seed_all(config.seed)
    tokenizer = load_tokenizer(config)
    dataset = build_dataset(config, manifest, skills, orders)
    machine = Machine.here(config.device, config.precision, sharded=config.fsdp_config is not None)
    model = build_model(config.model, tokenizer, manifest.vocab_size, kernels=config.kernels, machine=machine)
    check_length(model, manifest.seq_len)
    if config.fsdp_config is not None and isinstance(model.model, PreTrainedModel):
        mark_layers(model.model)
    metric = _skill_metric(manifest, eval_skills)
    model.val_metrics = {**(model.val_metrics or {}), type(metric).__name__: metric}
    end = document_end_of(config, tokenizer)
    evaluator = _evaluator(config, manifest, eval_skills, dataset, end)
    return Material(dataset, model, evaluator, end)


def _skill_metric(manifest: Manifest, eval_skills: list[str]) -> MeanSkillLoss:
    """Bits per byte where the loss is on whole texts, accuracy where it is on answers."""
    rates = tokens_per_byte({skill: manifest.skills[skill].splits['eval'] for skill in eval_skills})
    on_answers = 'loss_mask' in manifest.columns and not rates
    return MeanSkillLoss(eval_skills, tokens_per_byte=rates, accuracy=on_answers)


def _evaluator(
    config: TrainConfig,
    manifest: Manifest,
    eval_skills: list[str],
    dataset: SkillStreamingDataset,
    document_end: int | None,
) -> Evaluator:
    given, fits = config.eval_loader.batch_size, config.device_train_microbatch_size
    return skill_evaluator(
        EvalStreams(open_streams(config, manifest, eval_skills, 'eval')),
        batch_size=given or int(dataset.batch_size or 1),
        # What fits with gradients fits without. Composer's `auto` counts samples twice that it had evaluated before
        # the memory was full, and asks all ranks after each batch.
        microbatch_size=given or (fits if isinstance(fits, int) else None),
        eval_interval=config.eval_interval,
        samples_per_skill=config.eval_loader.samples_per_skill,
        document_end=document_end,
    )


def device_parts(config: TrainConfig, material: Material) -> dict[str, Any]:
    """The arguments of Composer's Trainer that are about model, data, device and precision: fresh for each."""
    with as_input_error('`train_loader` is not one that a DataLoader takes'):
        loader = token_data_spec(build_loader(config, material.dataset), material.document_end)
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


def _parts(
    config: TrainConfig, material: Material, algorithms: list[Algorithm], progress: Progress
) -> dict[str, Any]:
    """The arguments of Composer's Trainer."""
    return dict(
        **device_parts(config, material),
        eval_dataloader=material.evaluator,
        max_duration=config.max_duration,
        algorithms=algorithms,
        callbacks=[
            *build_callbacks(config.callbacks),
            GraphFile(config.save_folder),
            *_upload(config),
            progress,
        ],
        loggers=build_loggers(config.loggers),
        run_name=config.run_name,
        save_folder=checkpoint_folder(config),
        save_interval=config.save_interval,
        save_num_checkpoints_to_keep=config.save_num_checkpoints_to_keep,
        compile_config=config.compile_config,
        dist_timeout=config.dist_timeout,
        progress_bar=False,
        log_to_console=config.log_to_console,
    )


def _upload(config: TrainConfig) -> list[Callback]:
    remote = config.checkpoint_folder
    return [RunFilesUpload(config.save_folder, remote)] if remote and is_url(remote) else []


def _mixing(
    config: TrainConfig,
    policy: MixturePolicy,
    document_end: int | None,
    build: PolicyBuilder,
    *,
    begin_anew: bool,
) -> DataMixing:
    return DataMixing(
        policy,
        warn_passes=config.train_loader.warn_passes,
        log_path=Path(config.save_folder) / 'mixture.jsonl',
        begin_anew=begin_anew,
        document_end=document_end,
        build=build,
    )


def build_dataset(
    config: TrainConfig,
    manifest: Manifest,
    skills: list[str],
    orders: Mapping[str, SampleOrder] | None = None,
) -> SkillStreamingDataset:
    """The train streams of these skills as `train_loader` has them mixed."""
    ranks = dist.get_world_size()
    if config.global_train_batch_size % ranks:
        raise InputError(
            f'`global_train_batch_size` must divide evenly over the {ranks} ranks, but got: '
            f'{config.global_train_batch_size}.'
        )
    options = {'shuffle_seed': config.seed, **config.train_loader.dataset}
    if 'batch_size' in options:
        raise InputError(
            '`train_loader.dataset.batch_size` follows from `global_train_batch_size`: leave it out.'
        )
    check_options('train_loader.dataset', StreamingDataset, options)
    with as_input_error('`train_loader.dataset` has an option that the dataset does not take'):
        return SkillStreamingDataset(
            streams=open_streams(config, manifest, skills, 'train'),
            round_size=config.train_loader.round_size,
            batching=config.train_loader.batching,
            on_exhausted=config.train_loader.on_exhausted,
            on_changed=config.train_loader.on_changed,
            sample_orders=orders,
            stream_fraction=stream_fraction(config, manifest.seq_len),
            batch_size=config.global_train_batch_size // ranks,
            **options,
        )


def build_loader(config: TrainConfig, dataset: SkillStreamingDataset) -> DataLoader:
    """The DataLoader of `train_loader`."""
    workers = config.train_loader.num_workers
    if workers is None:
        workers = WORKERS_OF_A_GPU if on_gpu(config.device) else 0
    return DataLoader(
        dataset,
        batch_size=dataset.batch_size,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=config.train_loader.prefetch_factor if workers else None,
        pin_memory=config.train_loader.pin_memory and torch.cuda.is_available(),
        # Left to itself a loader draws from the random numbers of dropout, as often as it makes workers.
        generator=torch.Generator().manual_seed(config.seed),
    )


def _microbatch(config: TrainConfig, dataset: SkillStreamingDataset) -> int | str:
    if config.device_train_microbatch_size == 'auto' and not on_gpu(config.device):
        return int(dataset.batch_size or 1)
    return config.device_train_microbatch_size


def _plan(
    config: TrainConfig,
    manifest: Manifest,
    material: Material,
    *,
    sizes: Mapping[str, int],
    eval_skills: list[str],
    loaded: str | None,
) -> RunPlan:
    """What the run is going to say of itself before its first step."""
    dataset, kernels = material.dataset, material.model.kernels
    # Where there was something to choose from.
    chosen = on_gpu(config.device) or config.kernels != 'auto'
    kept = config.save_num_checkpoints_to_keep
    where, stay = checkpoint_folder(config), 'all kept' if kept < 0 else f'the newest {kept} kept'
    return RunPlan(
        skills=sizes,
        seq_len=manifest.seq_len,
        duration=config.max_duration,
        rounds=run_units(config, manifest.seq_len).rounds(Time.from_timestring(config.max_duration)),
        round_size=dataset.round_size,
        batch_size=dataset.global_batch_size,
        eval_skills={skill: manifest.skills[skill].splits['eval'].samples for skill in eval_skills},
        samples_per_skill=config.eval_loader.samples_per_skill,
        eval_batches=len(cast(DataLoader, material.evaluator.dataloader.dataloader)),
        eval_interval=config.eval_interval,
        folder=config.save_folder,
        policy=policy_name(config),
        checkpoints=f'{where}, every {config.save_interval}, {stay}',
        loaded=loaded,
        kernels=kernels.line() if kernels and chosen else None,
        stands_for=config.train_loader.match_passes,
    )
