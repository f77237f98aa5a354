"""The training YAML: typed, strict, in llm-foundry's words. Reading it imports neither torch nor Composer.

Every key stands here with what it means. Unknown keys are errors that name the nearest known one;
``key=value`` overrides take dots (``optimizer.lr=3e-4``); ``${...}`` refers to other keys.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import is_url
from skillit_stream.formats.streams_folders import listed_folders
from skillit_stream.mixture.registry import means_the_same, options_of
from skillit_stream.training.yaml_files import TEXT_OR_LIST, load_yaml

Options = dict[str, Any]
INITS = ('default', 'fan_in')
SAMPLES_PER_SKILL = 256
KERNELS = ('auto', 'fused', 'compiled', 'eager')


@dataclass
class ModelConfig:
    """A causal language model of transformers."""

    name: str = 'hf_causal_lm'
    """The only kind so far."""
    pretrained_model_name_or_path: str | None = None
    """Hub name or local folder; null: build from `config`."""
    pretrained: bool = True
    """Whether to load its weights, or its configuration alone."""
    gguf_file: str | None = None
    """A GGUF file in that folder to load the weights from (needs the extra `gguf`)."""
    config: Options | None = None
    """A configuration from scratch: `model_type: llama` and what its transformers class takes."""
    config_overrides: Options = field(default_factory=dict)
    """Changes to the loaded configuration."""
    resize_embeddings: bool = False
    """Whether a model with fewer tokens than the tokenizer gets embeddings for the others, new ones."""
    init: str = 'default'
    """Weights from scratch: `default` (the model's own) or `fan_in`: standard deviation 1/sqrt(fan-in)."""

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise InputError(f'`model.init` must be one of {", ".join(INITS)}, but got: {self.init!r}.')


@dataclass
class TrainLoaderConfig:
    """The mixed loader; see SkillStreamingDataset."""

    round_size: int = MISSING
    """Samples in a round, all ranks together; one round is one epoch."""
    batching: str = 'random'
    """`random` or `stratified`."""
    on_exhausted: str = 'repeat'
    """`repeat` or `error`."""
    on_changed: str = 'error'
    """Resuming with other streams than the checkpoint's: `error`, or `allow` at the end of a round."""
    skills: list[str] | None = None
    """Skills to train on, where `*` stands for any signs; null: all of the streams folder."""
    match_passes: int | None = None
    """Tokens of the run that this one stands for: every stream is limited to a part of its samples, chosen by the seed,
    which this run passes through as often as that one would through all of them. null: all."""
    warn_passes: float = 4.0
    """Warn before a round in which a skill's samples will have been walked more often than this."""
    num_workers: int | None = None
    """DataLoader workers a rank; they persist over rounds. null: 2 where a GPU would wait for the data, else 0."""
    prefetch_factor: int | None = None
    """Batches a worker prepares ahead; null: torch's default."""
    pin_memory: bool = True
    """Whether batches go through pinned memory, where there is a GPU."""
    dataset: Options = field(default_factory=dict)
    """More for the dataset: shuffle_seed, shuffle_block_size, num_canonical_nodes, cache_limit, ..."""

    def __post_init__(self) -> None:
        _refuse('train_loader.skills', self.skills, self.skills == [], 'a list of skills or null')
        target = self.match_passes
        _refuse('train_loader.match_passes', target, target is not None and target < 1, 'tokens, at least 1')
        workers = self.num_workers
        _refuse('train_loader.num_workers', workers, workers is not None and workers < 0, 'at least 0')
        factor = self.prefetch_factor
        _refuse('train_loader.prefetch_factor', factor, factor is not None and factor < 1, 'at least 1')


@dataclass
class EvalLoaderConfig:
    """Evaluation of all skills in one pass over their `eval` splits."""

    skills: list[str] | None = None
    """Skills to evaluate, where `*` stands for any signs; null: all of the streams folder."""
    batch_size: int | None = None
    """Samples a rank and forward pass; null: those of `device_train_microbatch_size`, of a step where that is auto."""
    samples_per_skill: int | None = SAMPLES_PER_SKILL
    """Evaluate each skill on its first so many samples, the same ones every time; null: on all."""
    subset_num_batches: int | None = None
    """llm-foundry's word for the same: batches of `batch_size` samples (null: global_train_batch_size), -1: all.
    Taken for `samples_per_skill`, and null from then on."""
    before_training: bool = True
    """Whether to evaluate once before the first round."""

    def __post_init__(self) -> None:
        size, subset, samples = self.batch_size, self.subset_num_batches, self.samples_per_skill
        _refuse('eval_loader.skills', self.skills, self.skills == [], 'a list of skills or null')
        _refuse('eval_loader.batch_size', size, size is not None and size < 1, 'at least 1')
        few = samples is not None and samples < 1
        _refuse('eval_loader.samples_per_skill', samples, few, 'at least 1, or null for all')
        wrong = subset is not None and subset < 1 and subset != -1
        _refuse('eval_loader.subset_num_batches', subset, wrong, 'at least 1, or -1 for all')


@dataclass
class TrainConfig:
    """A run."""

    streams: Any = field(default=MISSING, metadata={TEXT_OR_LIST: True})
    """Streams folder, as `skillit convert` writes it: a path, or a URL such as s3://bucket/path. Or a list of them,
    each with skills of its own: the run is the same as on one folder with all of these."""
    max_duration: str = MISSING
    """Time string: `10ep` (rounds), `1000ba`, `1_000_000tok`."""
    global_train_batch_size: int = MISSING
    """Samples in a step, all ranks together."""
    variables: Options = field(default_factory=dict)
    """Values for other keys to refer to as ${variables.name}."""
    streams_local: str | None = None
    """Where shards of `streams` are kept on each node once they are fetched; needed where it is a URL. Each of several
    folders has one of its own in it, named by its address."""
    run_name: str = '${oc.env:SKILLIT_RUN_NAME,run}'
    """Name of the run."""
    method: str | None = None
    """What the report calls runs that differ only in their seed; null: the run's name."""
    save_folder: str = 'runs/${run_name}'
    """The run folder, a path: mixture.jsonl, config.yaml, run.json and checkpoints/. {run_name} is filled in."""
    checkpoint_folder: str | None = None
    """Where checkpoints go, a path or a URL; null: checkpoints/ in the run folder. A URL gets the run's files too."""
    seed: int = 17
    """Seed of model, shuffles and dropout."""
    precision: str = 'fp32'
    """`fp32` or `amp_bf16`, ..."""
    mask_documents: bool = False
    """Whether the documents of a sample do not see each other; see loader/batches.py's ``causal_lm_inputs``."""
    kernels: str = 'auto'
    """`auto`: what is fastest of what the model and the machine have; `compiled`, `fused`: these, `fused` an error
    where they cannot be had; `eager`: plain PyTorch, attention included. See kernels.py."""
    device: str | None = None
    """`cpu` or `gpu`; null: a GPU if there is one."""
    device_train_microbatch_size: int | str = 'auto'
    """Samples a forward pass; `auto` finds the most that fit on a GPU, and is the batch on a CPU."""
    tokenizer: str | None = None
    """Hub name or folder; null: the one saved with the streams."""
    model: ModelConfig = field(default_factory=ModelConfig)
    train_loader: TrainLoaderConfig = field(default_factory=TrainLoaderConfig)
    eval_loader: EvalLoaderConfig = field(default_factory=EvalLoaderConfig)
    eval_interval: str = '1ep'
    """How often the evaluators run; the policy needs them at the end of every round."""
    optimizer: Options = field(default_factory=lambda: {'name': 'decoupled_adamw', 'lr': 6e-4})
    """`name`: adamw or decoupled_adamw, and its options."""
    scheduler: Options = field(default_factory=lambda: {'name': 'constant'})
    """`name`: constant, constant_with_warmup, cosine_with_warmup, linear_decay_with_warmup, ..., and its options."""
    algorithms: Options = field(default_factory=dict)
    """`data_mixing`: the policy and its options; Composer's by name: gradient_clipping, ema, swa, ..."""
    callbacks: Options = field(default_factory=dict)
    """Composer callbacks by name: speed_monitor, lr_monitor, memory_monitor, ...; and sample_log."""
    loggers: Options = field(default_factory=dict)
    """Composer loggers by name: tensorboard, wandb, mlflow, file."""
    fsdp_config: Options | None = None
    """Composer's FSDP configuration, activation checkpointing with it; null: DDP. {}: its defaults. Needs a GPU."""
    compile_config: Options | None = None
    """Arguments of torch.compile; null: not compiled. {}: its defaults."""
    dist_timeout: float = 600.0
    """Seconds that ranks wait for each other before the run fails."""
    save_interval: str = '1ep'
    """How often a checkpoint is written."""
    save_num_checkpoints_to_keep: int = 2
    """How many of the newest are kept on disk, where Composer keeps all; -1: all, to fork a run or learn a graph
    from an early one."""
    save_overwrite: bool = False
    """Whether to start over in a run folder that holds a run."""
    load_path: str | None = None
    """What to start from, a path or a URL: a checkpoint, or a run folder, whose newest checkpoint is meant."""
    load_weights_only: bool = False
    """Whether to take nothing but the weights from it."""
    load_ignore_keys: list[str] | None = None
    """What not to take from it, in Composer's words: `state/optimizers`, ..."""
    autoresume: bool = False
    """Whether to go on from the newest checkpoint of the run, if there is one."""
    progress_bar: bool = True
    """Composer's progress bar."""
    log_to_console: bool = False
    """Composer's log lines on the terminal."""

    def __post_init__(self) -> None:
        size = self.device_train_microbatch_size
        wrong = size != 'auto' if isinstance(size, str) else size < 1
        _refuse('device_train_microbatch_size', size, wrong, "at least 1, or 'auto'")
        _refuse(
            'global_train_batch_size',
            self.global_train_batch_size,
            self.global_train_batch_size < 1,
            'at least 1',
        )
        _refuse('seed', self.seed, not 0 <= self.seed < 2**32, 'from 0 to 4294967295')
        _refuse('dist_timeout', self.dist_timeout, not self.dist_timeout > 0, 'above 0')
        keep = self.save_num_checkpoints_to_keep
        _refuse('save_num_checkpoints_to_keep', keep, keep < -1 or keep == 0, 'at least 1, or -1 for all')
        self._count_samples()
        self._fill_places()
        self._check_places()
        _refuse('device', self.device, self.device not in (None, 'cpu', 'gpu'), 'cpu, gpu or null')
        _refuse('kernels', self.kernels, self.kernels not in KERNELS, f'one of {", ".join(KERNELS)}')
        mixing = self.algorithms.get('data_mixing')
        _refuse(
            'algorithms.data_mixing',
            mixing,
            not isinstance(mixing, dict | None),
            'a mapping: {policy: ..., ...}',
        )

    @property
    def data_mixing(self) -> dict[str, Any]:
        """The options of `algorithms.data_mixing`; empty without it."""
        return self.algorithms.get('data_mixing') or {}

    def _count_samples(self) -> None:
        """Take `eval_loader.subset_num_batches` for `samples_per_skill`: one key says what is evaluated."""
        loader = self.eval_loader
        if (batches := loader.subset_num_batches) is None:
            return
        size = loader.batch_size or self.global_train_batch_size
        samples = None if batches < 0 else batches * size
        if loader.samples_per_skill not in (SAMPLES_PER_SKILL, samples):
            raise InputError(
                f'`eval_loader.subset_num_batches`={batches} and `eval_loader.samples_per_skill`='
                f'{loader.samples_per_skill} say different things: give one of them.'
            )
        loader.samples_per_skill, loader.subset_num_batches = samples, None

    def _fill_places(self) -> None:
        """Fill in `{run_name}` as Composer does, and `~`, in every place; other braces would split the run folder."""
        for key in ('save_folder', 'checkpoint_folder', 'load_path', 'streams_local'):
            if place := getattr(self, key):
                setattr(self, key, os.path.expanduser(place.replace('{run_name}', self.run_name)))
        for key in ('save_folder', 'checkpoint_folder'):
            place = getattr(self, key) or ''
            # ${...} is not resolved yet in a configuration that Python has made.
            _refuse(key, place, '{' in place.replace('${', ''), 'without braces but {run_name}')

    def _check_places(self) -> None:
        folders = listed_folders(self.streams)
        self.streams = folders[0] if len(folders) == 1 else list(folders)
        elsewhere = [one for one in folders if is_url(one)]
        if elsewhere and not self.streams_local:
            raise InputError(
                f'`streams_local` must be given, the folder that shards are fetched to, because `streams` is '
                f'{elsewhere[0]}: pass streams_local=DIR.'
            )
        if is_url(self.save_folder):
            raise InputError(
                f'`save_folder` must be a path, but got: {self.save_folder!r}; pass checkpoint_folder='
                f'{self.save_folder} to keep checkpoints and a copy of the run folder there.'
            )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training YAML and `key=value` overrides into a checked configuration.

    Raises:
        InputError: The file cannot be read, a key is unknown or missing, or a value has the wrong type.
    """
    return load_yaml(path, TrainConfig, overrides, _switch_policy)


def _switch_policy(loaded: DictConfig, given: DictConfig) -> None:
    """Where an override names another policy than the YAML, drop the YAML's options that it does not have.

    Args:
        loaded: The YAML, changed in place.
        given: The overrides; options given as null that the policy does not have are dropped from them.
    """
    place = 'algorithms.data_mixing'
    options, chosen = OmegaConf.select(loaded, place), OmegaConf.select(given, place)
    policy = chosen.get('policy') if isinstance(chosen, DictConfig) else None
    before = options.get('policy', 'skill_it') if isinstance(options, DictConfig) else policy
    if policy is None or before is None or not isinstance(options, DictConfig) or policy == before:
        return
    known = options_of(policy)
    if known is None:
        return
    kept = {'policy', *(one for one in known if one not in options or means_the_same(one, before, policy))}
    for key in [key for key in options if key not in kept]:
        del options[key]
    for key in [key for key in chosen if key not in kept and chosen[key] is None]:
        del chosen[key]


def dump_config(config: TrainConfig) -> str:
    """The resolved configuration as YAML: the same run again."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _refuse(key: str, value: Any, wrong: bool, must_be: str) -> None:
    if wrong:
        raise InputError(f'`{key}` must be {must_be}, but got: {value!r}.')
