"""The mixed loader: the plan of `order`, played on Streaming's shards, cache and processes.

    Stream a ─┐
    Stream b ─┼─> SkillShards ──┬─> SkillStreamingDataset ──> DataLoader ──> collate ──> causal_lm_inputs
    Stream c ─┘   (samples by   │   (rounds, ledger: which
                   id, mended   │    round, which samples)
                   shards)      └─> EvalStreams ──> EvalSamples, each seen once

:mod:`.dataset` is what trains, :mod:`.eval_streams` what evaluates; both are :class:`~.skill_shards.SkillShards`.
:mod:`.rounds` knows which round is on and where its tapes start; :mod:`.ledger` is what the main process and its
workers have in common of that, without locks; :mod:`.place` is where one process is in its round; :mod:`.shards`
gathers a batch from memory-mapped files, :mod:`.batches` carries it whole to the model; :mod:`.checks` refuses what
does not fit. Everything that mends or works around Streaming is in :mod:`.host`.

A *worker* is a process of a DataLoader. It *begins* a round when it is iterated, and its round is
*dealt out* when its last batch has left it: so the dataset knows that a round is over although Composer says 0.

Nothing is imported here: the order needs no torch.
"""
