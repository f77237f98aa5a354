"""For YAMLs of llm-foundry: ``algorithms.data_mixing`` and loaders of ``name: skill_streams``.

llm-foundry finds both by entry points, without an import of this package; docs/llm-foundry.md has a YAML. It
builds algorithms before loaders and labels evaluators ``eval/<label>``: so the policy is built when the Trainer
has everything, and sees the loss of ``eval/arxiv`` as that of skill arxiv.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from composer.core import DataSpec, State
from composer.utils import dist
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from streaming import Stream
from transformers import PreTrainedTokenizerBase

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import nearest
from skillit_stream.formats.manifest import Manifest
from skillit_stream.formats.streams_folders import (
    SourceFolder,
    homes_of_skills,
    joined_manifest,
    source_folders,
)
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixture import RunContext
from skillit_stream.training.builders import build_dataset, build_loader
from skillit_stream.training.config import TrainConfig, TrainLoaderConfig
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.evaluation import build_evaluators, token_data_spec
from skillit_stream.training.run_policy import RunUnits, chosen_policy, chosen_skills, run_context
from skillit_stream.training.whole_rounds import dataset_of

EVAL_PREFIX = 'eval/'


class FoundryDataMixing(DataMixing):
    """DataMixing whose policy is named in a YAML and built once streams and evaluators are known.

    Args:
        metric: As in :class:`DataMixing`, and so are `warn_passes` and `log_path`.
        **options: `policy` and `graph`, as in the YAMLs of this package, and the policy's own.
    """

    def __init__(
        self,
        *,
        metric: str = 'LanguageCrossEntropy',
        warn_passes: float = 4.0,
        log_path: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            lambda state: chosen_policy(options, self._context(state), _units(state))[0],
            metric=metric,
            warn_passes=warn_passes,
            log_path=log_path,
        )

    def _skill_of(self, label: str) -> str:
        return label.removeprefix(EVAL_PREFIX)

    def _context(self, state: State) -> RunContext:
        dataset = dataset_of(state)
        labels = [evaluator.label for evaluator in state.evaluators]
        streams = dict(zip(dataset.skills, dataset.streams, strict=True))
        return run_context(
            dataset.pass_sizes,
            # The labels of in-context learning tasks have no such prefix.
            [self._skill_of(label) for label in labels if label.startswith(EVAL_PREFIX)],
            duration=state.max_duration,
            units=_units(state),
            train_folder=lambda skill: Path(streams[skill].local, streams[skill].split or ''),
        )


def _units(state: State) -> RunUnits:
    dataset = dataset_of(state)
    return RunUnits(dataset.round_size, dataset.global_batch_size, seq_len=None)


def build_skill_streams(
    *,
    streams: str | list[str],
    tokenizer: PreTrainedTokenizerBase | None,
    device_batch_size: int,
    skill: str | None = None,
    **options: Any,
) -> DataSpec:
    """The loader ``name: skill_streams``.

    Args:
        streams: Streams folder, as `skillit convert` writes it, or several.
        tokenizer: Of the model; it must know all token ids of the streams.
        device_batch_size: Samples a rank and batch.
        skill: The skill whose eval split is loaded; None: the train splits, mixed.
        **options: Of the mixed loader, as in the YAMLs of this package: `round_size` and the others of
            `train_loader`.

    Raises:
        InputError: An option is wrong, or does not fit the streams.
    """
    folders = source_folders(streams, None)
    manifest = joined_manifest(folders)
    if tokenizer is not None and len(tokenizer) < manifest.vocab_size:
        raise InputError(
            f'The tokenizer knows {len(tokenizer)} tokens, but {_named(folders)} has token ids up to '
            f'{manifest.vocab_size - 1}: name the one that the streams were converted with, {manifest.tokenizer_name}.'
        )
    if skill is None:
        return _train_streams(streams, manifest, device_batch_size, options)
    if options:
        raise InputError(
            f'`{next(iter(options))}` has no effect on a loader of one eval skill: leave it out.'
        )
    return _eval_stream(folders, manifest, device_batch_size, skill)


def _train_streams(
    streams: str | list[str], manifest: Manifest, device_batch_size: int, options: Mapping[str, Any]
) -> DataSpec:
    with as_input_error('`train_loader` of skill_streams', OmegaConfBaseException):
        section = OmegaConf.merge(OmegaConf.structured(TrainLoaderConfig), dict(options))
        config = TrainConfig(
            streams=streams,
            max_duration='1ep',  # the Trainer's to say: it has none yet
            global_train_batch_size=device_batch_size * dist.get_world_size(),
            train_loader=cast(TrainLoaderConfig, OmegaConf.to_object(section)),
        )
    if config.train_loader.match_passes is not None:
        raise InputError(
            '`match_passes` needs the length of the run, which a loader of llm-foundry does not know: leave it out, or '
            'train with `skillit train`.'
        )
    skills, _ = chosen_skills(config, manifest)
    return token_data_spec(build_loader(config, build_dataset(config, manifest, skills)))


def _eval_stream(
    folders: Sequence[SourceFolder], manifest: Manifest, device_batch_size: int, skill: str
) -> DataSpec:
    known = [name for name, info in manifest.skills.items() if 'eval' in info.splits]
    if skill not in known:
        raise InputError(
            f'`skill`: {_named(folders)} has no eval split of {skill!r}: {nearest(skill, known)}'
        )
    stream = Stream(local=str(homes_of_skills(folders)[skill].local / skill), split='eval')
    evaluators = build_evaluators(EvalStreams({skill: stream}), batch_size=device_batch_size, metric_names=[])
    return evaluators[0].dataloader


def _named(folders: Sequence[SourceFolder]) -> str:
    return ' and '.join(folder.source for folder in folders)
