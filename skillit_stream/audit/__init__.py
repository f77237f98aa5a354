"""Which sample was trained on when: the order of past rounds, recomputed from what a run left behind.

    run folder, index.json files → record, stream_index → replay → command

The order is a pure function of what run.json, mixture.jsonl and the streams' indexes say, so no shard is
read and neither torch nor Streaming is needed. What does not fit together is refused: a replay is exact or
there is none.
"""
