"""How much of each skill: mixture policies, the skills graph, and exact counts. NumPy alone.

A **policy** says which proportions the next round is trained on. It is asked once before training
and then after every round, with the losses observed::

    graph = SkillsGraph.load('graph.json')
    policy = SkillIt(graph, eta=0.5, window=3)
    proportions = policy.initial()                                     # float64 [k]
    for t in range(rounds):
        ...                                                            # train round t
        proportions = policy.update(RoundObservation(t, eval_losses))  # float64 [k]

Proportions come in the order of ``policy.skills`` and sum to 1; losses are mappings by skill name, in
nats per token. Evaluations that do not end a round, the one before training (round -1) above all, go to
``policy.observe``; ``policy.needs_initial_losses`` says whether that one is wanted. A policy is
saved with ``state_dict`` and continues identically after ``load_state_dict``. It is deterministic:
the same observations give the same proportions. ``policy.notes()`` says in a line each what was out
of the ordinary in the last step; ``policy.needs_train_losses`` asks for the training losses,
``policy.needs_gradients`` for products of the skills' gradients.

**Words.** *proportions*: how much of each skill a round holds, one number a skill; such an array is called a
*mixture*. *Weights* are not negative and need not sum to 1. A *round* is the span over which proportions are
constant. *Limits* are bounds on proportions. What the run knows when a policy is built is its *context*.

**Built in** (`build_policy` makes them by name, with the options of a YAML):

===================== ============================================================================
``skill_it``          `SkillIt`: exp(eta A L) over a window of losses, by eta or tilt, and the published code's variants
``static``            `StaticMixture`: fixed ``proportions``, or ``weights`` such as 1:2:1
``stratified``        the same proportion for every skill, or for ``targets`` and their prerequisites
``proportional``      proportions by the size of the streams ("random" in the paper)
``dirichlet``         a fixed mixture, drawn around the sizes of the streams by a seed
``schedule``          `Schedule`: one mixture after another, each for its segment of the run
``curriculum``        `Curriculum`: skills one after another, easy to hard or (``anti``) hard to easy
``sample_curriculum`` `SampleCurriculum`: samples of all skills by loss, easy to hard or (``anti``) hard to easy
``doremi``            `DoReMi`: multiplicative weights on training losses above a ``reference``
``sheared``           `DynamicBatchLoading`: the same on eval losses, as for Sheared LLaMA
``odm``               `OnlineDataMixing`: by smoothed exponentials of the training losses
``exp3``              `Exp3`: a bandit with training losses as rewards
``aioli``             `Aioli`: Skill-It's rule with a graph estimated from probing rounds of the run itself
``ado``               `AdaptiveDataOptimization`: where fitted scaling laws fall fastest
``dga``               `GradientAlignment`: skills whose gradients point where the targets', or others', do
``forks``             `forks.policy.Forks`: one mixture until branches of the run confirm that another is better
``regmix_d``          `mixture_fit.regmix_d`: what a fit to whole small runs predicts to be best at each stage
``velocitune``        `Velocitune`: more of what is far from its target loss, as a part of the way there
``grape``             `Grape`: what helps, by the graph, the targets that improve least
===================== ============================================================================

Every one of them takes ``floor``, ``ceiling`` and ``max_passes`` (`Limits`: proportions within bounds, what
is cut off goes to the others in the ratio of their proportions; with ``token_weights`` what is trained for stays what
the policy wants, see `MixturePolicy.objective`), ``on_bad_loss`` (`ForgivingPolicy`: what a loss
that is missing or not finite does) and ``start`` (`WaitingPolicy`: begins inside the run, a fixed mixture until then).

`GroupedPolicy` puts streams into groups, which are the skills of the policy inside; a group's proportion is shared
evenly among its streams (``groups`` in a YAML).

**One's own policy** is a subclass of `MixturePolicy` with `initial` and `update`, and `remembers` if its state
is more than its parameters. Of the fields of `RunContext` its constructor is given those that it names as
parameters; all its other parameters are options of the YAML. That names it by its place,
``policy: path/to/file.py:Hardest`` or ``policy: package.module:Hardest``, or by a name that `register` or an
entry point in the group ``skillit_stream.policies`` gives it::

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
training on skill i helps eval skill j. One that was learned says from what (``measured``); ``with_new_skills`` adds
the rows and columns of skills that it does not know (``new_skills`` in a YAML).

**Counts** are exact: `apportion` turns proportions, and what rounding owes, into samples of a round.

In the files: ``policy`` is the interface, ``registry`` finds and builds, ``context`` is what it builds from, a
file each policy; ``graph`` is the skills graph, and ``graph_formulas``, ``graph_measurement``, ``graph_warnings``,
``new_skills`` are of it; ``limits``, ``bad_losses``, ``waiting``, ``measuring`` and ``grouped`` wrap any policy;
``trials`` are branches and short runs that a policy has trained before it decides (`MixturePolicy.trial`);
``tilt`` is how far a mixture leans;
``explain`` takes the moves of a finished round apart, by edge of the graph and loss; ``from_options`` reads what
stands under ``data_mixing``; ``checks`` refuses input, ``simplex`` and ``stages`` compute.
"""

from skillit_stream.base.files import read_skill_names
from skillit_stream.mixture.ado import AdaptiveDataOptimization
from skillit_stream.mixture.aioli import Aioli
from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.mixture.bad_losses import ForgivingPolicy
from skillit_stream.mixture.context import RunContext
from skillit_stream.mixture.curriculum import Curriculum
from skillit_stream.mixture.excess_loss import DoReMi, DynamicBatchLoading
from skillit_stream.mixture.exp3 import Exp3
from skillit_stream.mixture.gradient_alignment import GradientAlignment
from skillit_stream.mixture.grape import Grape
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.grouped import GroupedPolicy
from skillit_stream.mixture.limits import LimitedPolicy, Limits
from skillit_stream.mixture.odm import OnlineDataMixing
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import build_policy, policy_names, register
from skillit_stream.mixture.sample_curriculum import SampleCurriculum
from skillit_stream.mixture.sample_order import Pace, RankedSamples, SampleOrder
from skillit_stream.mixture.schedule import Schedule
from skillit_stream.mixture.skill_it import SkillIt
from skillit_stream.mixture.skill_it_variant import SkillItVariant
from skillit_stream.mixture.static import StaticMixture
from skillit_stream.mixture.velocitune import Velocitune
from skillit_stream.mixture.waiting import WaitingPolicy

__all__ = [
    'AdaptiveDataOptimization',
    'Aioli',
    'Curriculum',
    'DoReMi',
    'DynamicBatchLoading',
    'Exp3',
    'ForgivingPolicy',
    'GradientAlignment',
    'Grape',
    'GroupedPolicy',
    'LimitedPolicy',
    'Limits',
    'MixturePolicy',
    'OnlineDataMixing',
    'Pace',
    'RankedSamples',
    'RoundObservation',
    'RunContext',
    'SampleCurriculum',
    'SampleOrder',
    'Schedule',
    'SkillIt',
    'SkillItVariant',
    'SkillsGraph',
    'StaticMixture',
    'Velocitune',
    'WaitingPolicy',
    'build_policy',
    'largest_remainder',
    'policy_names',
    'read_skill_names',
    'register',
]
