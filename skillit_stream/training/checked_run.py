"""What is known of a run before its model is built, or why it cannot be trained."""

from dataclasses import dataclass

from skillit_stream.formats.manifest import Manifest
from skillit_stream.mixture import MixturePolicy, SkillsGraph
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.intervals import check_times
from skillit_stream.training.run_policy import chosen_skills, policy_of_run, train_sizes
from skillit_stream.training.streams_folder import load_manifest


@dataclass(frozen=True)
class CheckedRun:
    """A run's streams and what mixes them."""

    manifest: Manifest
    skills: list[str]
    """Those that are trained on."""
    eval_skills: list[str]
    sizes: dict[str, int]
    """Samples of each train stream that may be drawn."""
    policy: MixturePolicy
    graph: SkillsGraph | None


def check_run(config: TrainConfig) -> CheckedRun:
    """Read a run's streams and build its policy.

    Raises:
        InputError: The times, the streams, the graph or the policy do not fit.
    """
    check_times(config)
    manifest = load_manifest(config)
    skills, eval_skills = chosen_skills(config, manifest)
    sizes = train_sizes(config, manifest, skills)
    policy, graph = policy_of_run(config, sizes, eval_skills, seq_len=manifest.seq_len)
    return CheckedRun(manifest, skills, eval_skills, sizes, policy, graph)
