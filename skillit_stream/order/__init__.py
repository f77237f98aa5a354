"""Which sample comes next: tapes, round plans and the mixed loader that plays them.

A stream's samples lie on a *tape* (:mod:`.tape`): its endless order, one shuffled pass after another,
computed a block at a time. A *cursor* (:mod:`.cursor`) says how far each tape is consumed. A round's
*plan* (:mod:`.plan`) deals exact counts of every skill to global batches and takes the next samples of
each tape; it is a pure function, so every process computes the same. ``SkillStreamingDataset``
(:mod:`.dataset`) plays it on Streaming's shards, cache and processes. What is in a streams folder says its
manifest (:mod:`.manifest`), which needs none of these and no torch; so nothing is imported here.
"""
