"""Skills graphs: learned from short runs, or from runs that are there already, and looked at.

    training YAML → learning (short_runs, records) ─┐
    run folders, tables → finished_runs ────────────┴→ formulas → SkillsGraph → look

`formulas` is NumPy alone: which runs a method needs, and the graph from their losses. A graph that is learned
is a ``graph.json`` that `algorithms.data_mixing.graph` of a training YAML names.
"""
