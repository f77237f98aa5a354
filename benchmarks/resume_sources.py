"""What documentation and code of the loaders say about the cases, as the versions read that the table was made with."""

SOURCES: dict[str, tuple[str, ...]] = {
    'skillit_stream': (
        '**skillit_stream**: refuses other streams inside a round (`load_state_dict`), and takes them between two with '
        "`on_changed='allow'`. The global batch must stay until a round is over: ranks times batch is the same "
        'before and after.',
    ),
    'StreamingDataset': (
        '**StreamingDataset**: "Elastic Determinism: Samples are in the same order regardless of the number of GPUs, '
        'nodes, or CPU workers" (docs.mosaicml.com/projects/streaming, Key Features): what it promises it keeps, '
        'batch by batch.',
        'A mixture is the `proportion` of its streams, read once, by the constructor. Each epoch draws each stream '
        'anew (`StreamingDataset.resample_streams`), so an epoch that is shorter than a pass repeats samples whether '
        'or not the mixture changes, and a checkpoint is an offset in a plan that a grown stream replaces. A change '
        'inside an epoch of a whole pass is such an offset as well: it lost and repeated as many (156).',
    ),
    'litdata': (
        '**litdata**: "CombinedStreamingDataset and ParallelStreamingDataset support resume only when world_size, '
        'num_workers, and batch_size match the checkpoint" (`StreamingDataLoader.load_state_dict`); a single '
        'StreamingDataset resumes with others.',
        "With several workers the state keeps a stream's samples in all and divides them among the workers by whole "
        'batches (`_replay_sampling`), which a mixed batch is not: hence what is lost and repeated with two workers '
        'and not with one.',
        'Weights need `iterate_over_all=False`, and then the epoch ends with the first empty stream, the first empty '
        'part of a worker included: tiny streams end it early. Without weights it walks all of them (so in *no stop*), '
        'but `load_state_dict` then asks for the length, which sets the batch size of the streams to 1 '
        '(`CombinedStreamingDataset.__len__`).',
    ),
    'torchdata + datasets': (
        '**torchdata**: StatefulDataLoader "handles aggregation and distribution of state across multiprocess workers '
        '(but not across ranks)" (README of stateful_dataloader, 0.11): a state a rank, saved and loaded by each rank '
        'here. Other workers: asserted against in `_restore_main_state`.',
        '**datasets**: mixed by `interleave_datasets(probabilities=, '
        "stopping_strategy='all_exhausted_without_replacement')`, divided by `split_dataset_by_node`. Its state is "
        'that of an earlier point and a number of samples to skip; with other probabilities others are skipped.',
    ),
    'torchdata + datasets, shuffle buffer': (
        '**datasets, shuffle buffer**: "examples from shuffle buffers are lost when resuming and the buffers are '
        'refilled with new data" (`IterableDataset.state_dict`): here a buffer of 8 samples in each stream of each '
        'worker. Without a buffer nothing is shuffled in the column before.',
    ),
}
