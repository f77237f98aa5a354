"""Skills graphs: learned from short runs, or from runs that are there already, and looked at.

    training YAML → learning (short_runs, records, start) ─┐
    run folders, tables → finished_runs (start) ───────────┴→ mixture.graph_formulas → SkillsGraph → look

`mixture.graph_formulas` is NumPy alone: which runs a method needs, and the graph from their losses. A run can learn its
graph by itself (``graph: measure``, `mixture.measuring`). A graph that is learned
is a ``graph.json`` that `algorithms.data_mixing.graph` of a training YAML names.

``skillit graph learn`` takes a training YAML (model, streams, optimizer, batch), a method and a number of steps, and
trains what the method needs::

    approximate    a run on each train skill                            k runs
    brute-force    one on each skill and one on each pair               k + k(k-1)/2 runs

Every run starts from the same weights; its losses are a *record* of its own in the work folder, so that runs are
done by any process, in any order, once. The process that finds them all there writes the graph, and ``losses.csv``
beside the records. With ``--repeats N`` each is done N times with other orders of the samples, and each edge gets a
standard error. ``skillit graph from-runs`` takes run folders, or such a table, instead. ``skillit graph show`` prints a
graph and says when Skill-It cannot be expected to help with it.

Words: a *mix* is the one or two skills that a short run is trained on in equal proportions; an *edge* is a weight
above 0 between skills of different names; *start* stands for the losses before training; an *effect* is a weight
before it is clipped at 0.

Which weights to start from: from scratch the first steps lower every loss alike, and a finished model has little left
to learn, so that neither tells the skills apart; a checkpoint at 10-20 % of a run (``load_path=``) does. The graph
names its start.
"""
