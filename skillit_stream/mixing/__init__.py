"""The mixture of a run, driven by a policy: for any trainer.

    losses of evaluations ─┐
                           ├─> MixtureDriver ─> dataset.set_proportions, mixture.jsonl
    policy, dataset ───────┘

A trainer calls ``start`` before the first step, ``observe`` for an evaluation inside a round, ``end_round`` with the
evaluation at its end, and puts ``state_dict`` into its checkpoints; a loop of one's own goes over ``batches``, so
that the state holds the dataset's too. What `skillit apply` gives a run that goes on is found beside the log
(:mod:`~.applying`). :func:`~.evaluation.evaluate_skills` measures the losses. A policy that weighs tokens is driven by
a trainer that multiplies losses by ``token_weights`` alone. Nothing here knows Composer.
"""
