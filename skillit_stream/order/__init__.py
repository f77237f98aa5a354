"""Which sample comes next: pure functions of streams, seed, canonical nodes, proportions and cursors. NumPy alone.

How a sample id comes about::

    proportions, samples owed ── apportion ──> samples of each skill in the round
                                                   │  plan: dealt to global batches and canonical nodes,
                                                   v        shuffled there
    slot 17 of the round: skill `arxiv`, canonical node 1
                                                   │  cursor: the next sample of that node's span
                                                   v
    pass 3, line position 40,211 of the tape of `arxiv`
                                                   │  tape: block -> its permutation -> shard -> row
                                                   v
    sample id = first id of `arxiv` + 1,204,551

A tape (:mod:`.tape`) is the endless order of a stream, a cursor (:mod:`.cursor`) how far it is consumed, a plan
(:mod:`.plan`) the order of one round. Other tapes: :mod:`.paced_tape` of a curriculum over samples,
:mod:`.subset_tape` of a part of a stream, :mod:`.grown_tape` of a stream that was lengthened in its pass.
:mod:`.carry_over` takes a saved state to the streams there are now; :mod:`.index` finds the shard of a sample;
:mod:`.keys` are the keyed shuffles under all of it.

Words, beside those of the design (stream, round, tape, pass, cursor, canonical node):

- *line position*: place of a sample in a pass, before its block is shuffled;
- *span*: the equal stretch of a pass that one canonical node reads;
- *block*: some shards in a row within a span, whose samples are shuffled together;
- *slot*: a place in a round, by global batch, canonical node and number; it gets a skill, then its next sample;
- *window*: global batches that are planned at once, and the reach of the `random` shuffle;
- *stage*: samples that a curriculum lets in until more are let in;
- *part*: the shards that a stream had at first, or that one lengthening brought, in the pass under way.
"""
