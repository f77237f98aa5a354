"""Check before moving: whether another mixture helps a run, measured on branches of one of its checkpoints.

    run folder → start ─→ branches ─→ choice ─→ pairs ─→ verdict ─→ mixture.yaml, graph.json,
                          (a record each)      (a record each)                  result.json ─→ fork.html

A *branch* is a few steps from the checkpoint, as the run would go on: weights, optimizer, schedule, time and place in
the data are those of the run; the mixture is another, or the present one in another order of the samples. (The short
runs of a graph, in ``graphs/``, share the weights alone.)

1. One branch for each skill, raised half of the way to itself alone, and `repeats` of the present mixture, each in an
   order of its own. Their losses on the first half of the eval samples give the effect of each skill on each loss, and
   the noise.
2. The log-linear law of ``mixture_fit`` is fitted to each target, and the mixture with the lowest predicted mean is
   looked for within what the branches span and what is left of each stream.
3. `confirm` *pairs* of that mixture and the present one, both in one order that nothing before has had, on the second
   half of the eval samples. Student's t of their differences decides.

Inside a run the policy `forks` asks for the same branches at the end of a round, its own Trainer trains them
(``training/live_branches.py``), and what is confirmed is played from the next round on.

Every branch is a file of its own in the folder, so that any process can do any of them, once. In the files::

    start.py      the checkpoint and the configuration, copied: a live run may remove its own
    plan.py       what is asked for: the branches by name, limits, lengths
    branches.py   trains and evaluates a branch
    records.py    what is kept of one
    choice.py     effects, law, best mixture: NumPy alone
    verdict.py    the pairs, and what they say
    deciding.py   from branches to a verdict, whoever trains them
    policy.py     the policy `forks`
    forking.py    all of it, in order
    output.py     the files and the lines on the terminal; the page is of the report's room
    command.py    `skillit fork`
"""
