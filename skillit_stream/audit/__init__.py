"""Which sample was trained on when: the order of past rounds, recomputed from what a run left behind.

    a line of mixture.jsonl, index.json files → stream_index → past_round → replay → command

The line holds the dataset's state at the start of its round; with the streams' indexes the round's order follows
from it by the functions that planned it for training. So any round is answered by itself, and no shard is read. What
does not fit together is refused: a replay is exact or there is none.
"""
