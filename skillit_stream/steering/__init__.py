"""A run that is under way: looked at, and given another mixture, from outside of its processes.

    run.json, mixture.jsonl ─> run_facts ─┬─> apply ──> apply.json ──> the run, at the end of its round
                                          └─> status <── explain (why the mixture moved)

Nothing here talks to a process of the run: what is known of it is what it has written into its folder, and what is
asked of it is a file there (:mod:`skillit_stream.formats.applied`), which :class:`skillit_stream.mixing.applying`
reads. A *request* is such a file; it is *pending* until the run has *taken* it.
"""
