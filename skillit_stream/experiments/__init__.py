"""Methods x seeds: `skillit experiment` trains every method with every seed and reports what came out.

In goes a YAML (`config`) that names a training YAML and, per method, what distinguishes it; out come a run folder a
method and seed, ``results.md``, ``results.json`` and a report::

    config ── learned_graph ── planning ── running ── results
    (YAML)    (graph.json,     (a config   (trains    (tables, tests, learning curves,
               if wanted)       a run)      what is    what they were run on)
                                            missing)

`command` calls them in this order. A run whose configuration and graph are unchanged is kept and not trained again.
"""
