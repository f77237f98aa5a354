"""The mixed loader: the plan of `order`, played on Streaming's shards, cache and processes.

    Stream a ─┐
    Stream b ─┼─> SkillShards ──┬─> SkillStreamingDataset ──> DataLoader ──> collate ──> causal_lm_inputs
    Stream c ─┘   (samples by   │   (rounds, ledger: which
                   id, mended   │    round, which samples)
                   shards)      └─> EvalStreams ──> EvalSamples, each seen once

:mod:`.dataset` is what trains, :mod:`.eval_streams` what evaluates; both are :class:`~.skill_shards.SkillShards`.
:mod:`.rounds` knows which round is on and where its tapes start, :mod:`.played_rounds` shows it; :mod:`.ledger` is what
the main process and its workers have in common of that; :mod:`.place` is where one process is in its round;
:mod:`.fetch_ahead` has shards fetched before they are needed; :mod:`.shards` gathers a batch from memory-mapped files,
:mod:`.batches` carries it whole to the model, :mod:`.padding` through transformers' collators too; :mod:`.checks`
refuses what does not fit. Everything that mends or works around Streaming is in :mod:`.host`.

A *worker* is a process of a DataLoader. An iteration *begins* a round when the first of its workers is iterated, and
the round is *dealt out* when its last batch has left them: so the dataset knows that a round is over although Composer
says 0. A newer iteration, or a state that is loaded, ends those before it.

Nothing is imported here: the order needs no torch.
"""
