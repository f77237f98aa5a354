"""What would have Composer train something else than the rounds that the dataset lays out."""

from composer.core import Algorithm, State

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset


def check_only_one(algorithms: list[Algorithm], kind: type[Algorithm]) -> None:
    """Refuse two algorithms of a kind: both would set the mixture, and a checkpoint keeps the state of one.

    Raises:
        InputError: There are.
    """
    names = [type(one).__name__ for one in algorithms if isinstance(one, kind)]
    if len(names) > 1:
        raise InputError(
            f'A Trainer must have one DataMixing, but got: {", ".join(names)}; leave out all but one.'
        )


def check_whole_rounds(state: State, dataset: SkillStreamingDataset) -> None:
    """Refuse a loader that cuts rounds into other batches, or a Trainer that stops before a round's end.

    Raises:
        InputError: At the start of a fit, if the samples of a round would be counted wrong.
    """
    loader = getattr(state.train_dataloader, 'batch_size', dataset.batch_size)
    if loader != dataset.batch_size:
        raise InputError(
            f'`batch_size` of the DataLoader must be that of the dataset, {dataset.batch_size}, but got: {loader}.'
        )
    steps, planned = dataset.round_size // dataset.global_batch_size, state.dataloader_len
    if planned is not None and int(planned) != steps:
        raise InputError(
            f'`train_subset_num_batches` must be left out, for a round is {steps} steps, but got: {int(planned)}; for '
            f'shorter rounds pass round_size={int(planned) * dataset.global_batch_size} to the dataset.'
        )


def dataset_of(state: State) -> SkillStreamingDataset:
    """The dataset that is trained on."""
    dataset = getattr(state.train_dataloader, 'dataset', None)
    if not isinstance(dataset, SkillStreamingDataset):
        raise InputError(
            f'DataMixing needs a train_dataloader over a SkillStreamingDataset, but got: {type(dataset).__name__}.'
        )
    return dataset
