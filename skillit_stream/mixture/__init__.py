"""How much of each skill: mixture policies, the skills graph, and exact counts. NumPy alone.

A **policy** says which proportions the next round is trained on. It is asked once before training
and then after every round, with the losses observed::

    graph = SkillsGraph.load('graph.json')
    policy = SkillIt(graph, eta=0.5, window=3)
    proportions = policy.initial()                                     # float64 [k]
    for t in range(rounds):
        ...                                                            # train round t
        proportions = policy.update(RoundObservation(t, eval_losses))  # float64 [k]

Proportions come in the order of ``policy.skills``; losses are mappings by skill name, in nats per
token. Evaluations that do not end a round, the one before training (round -1) above all, go to
``policy.observe``; ``policy.needs_initial_losses`` says whether that one is wanted. A policy is
saved with ``state_dict`` and continues identically after ``load_state_dict``. It is deterministic:
the same observations give the same proportions.

**Built in** (`build_policy` makes them by name, with the options of a YAML):

============== ==============================================================================
``skill_it``     `SkillIt`: exp(eta A L) over a window of losses, and the published code's variants
``static``       `StaticMixture`: fixed ``proportions``, or ``weights`` such as 1:2:1
``stratified``   the same share for every skill
``proportional`` shares by the size of the streams
============== ==============================================================================

**One's own policy** is a subclass of `MixturePolicy` with `initial` and `update`, known by name
through `register` or an entry point in the group ``skillit_stream.policies``::

    @register('hardest')
    class Hardest(MixturePolicy):
        def __init__(self, skills, eval_skills):
            super().__init__(skills, eval_skills)

        def initial(self):
            return np.full(len(self.skills), 1 / len(self.skills))

        def update(self, observation):
            losses = np.array([observation.eval_losses[name] for name in self.skills])
            return losses / losses.sum()

The **skills graph** (`SkillsGraph`) is a matrix with named sides: ``weights[i, j]`` is how much
training on skill i helps eval skill j.

**Counts** are exact: `largest_remainder` turns proportions into samples of a round.
"""

from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.mixture.files import read_skill_names
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import build_policy, policy_names, register
from skillit_stream.mixture.skill_it import SkillIt
from skillit_stream.mixture.skill_it_variant import SkillItVariant
from skillit_stream.mixture.static import StaticMixture

__all__ = [
    'MixturePolicy',
    'RoundObservation',
    'SkillIt',
    'SkillItVariant',
    'SkillsGraph',
    'StaticMixture',
    'build_policy',
    'largest_remainder',
    'policy_names',
    'read_skill_names',
    'register',
]
