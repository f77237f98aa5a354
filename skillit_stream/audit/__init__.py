"""Which sample was trained on when: the order of past rounds, recomputed from what a run left behind.

    run folder, index.json files → order, stream_index → record → walk → replay → command

The order is a pure function of what mixture.jsonl and the streams' indexes say, so no shard is read. Where a
run was resumed with other settings or streams, the tapes are carried over as training did; only this needs
Streaming. What does not fit together is refused: a replay is exact or there is none.
"""
