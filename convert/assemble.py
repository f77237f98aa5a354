"""Finished parts -> skill streams: all skills are looked at before the first shard is brought to its place."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from skillit_stream.base.names import number_of
from skillit_stream.convert.merge import AssembledSkill, Assembly, SkillDraft, draft_skill, parts_of
from skillit_stream.convert.names import clash
from skillit_stream.convert.parts import SkillRecord
from skillit_stream.convert.shards import config_of, index_entry
from skillit_stream.convert.splits import Amount, SmallSkillsError, TooSmallError, WorkKeptError, amount_of
from skillit_stream.convert.spool import SpooledSkill


@dataclass(frozen=True)
class AssembledSkills:
    """What has become of the skills.

    Attributes:
        skills: Name -> what is put together.
        left_out: Name of a skill that is too small -> its documents and their tokens.
    """

    skills: Mapping[str, AssembledSkill]
    left_out: Mapping[str, Amount]


def assemble_skills(assembly: Assembly, advance: Callable[[], None] = lambda: None) -> AssembledSkills:
    """Put the streams of all skills together; they are complete but for the manifest.

    Nothing is moved before all skills are known to be large enough: whoever is refused finds the parts as they were.

    Args:
        assembly: What they are put together from.
        advance: Called twice for each skill that the parts have, as it is done.

    Raises:
        SmallSkillsError: Skills are too small, and are not to be left out.
        WorkKeptError: All are left out.
        InputError: Two skills would have one name.
    """
    drafts, small = _drafts(assembly, _raw_names(assembly), advance)
    if small and assembly.min_samples is None:
        raise SmallSkillsError(list(small.values()), generated=assembly.generated)
    known = assembly.destination.existing.splits
    few = {
        skill
        for skill, draft in drafts.items()
        if _samples_of(draft) < (assembly.min_samples or 0) and not known(skill)
    }
    left_out = {skill: _amount_of(assembly, skill) for skill in sorted({*few, *small})}
    if left_out and len(few) == len(drafts):
        raise WorkKeptError(
            f'--min-samples {assembly.min_samples}: leaves out {number_of(len(left_out), "skill")}, which is all of '
            'them; lower it, or --seq-len'
        )
    skills = {}
    for skill, draft in drafts.items():
        if skill not in few:
            skills[skill] = _finished(assembly, skill, draft)
        advance()
    return AssembledSkills(skills, left_out)


def _finished(assembly: Assembly, skill: str, draft: SkillDraft) -> AssembledSkill:
    """Bring the shards of a skill to their place."""
    config = config_of(assembly.options, assembly.tokenizer.dtype)
    splits = {}
    for split, info in draft.assembled.info.splits.items():
        folders, shards = draft.shards[split]
        entries = [index_entry(one, config) for one in shards]
        digest = assembly.destination.finish_split(skill, split, folders, entries)
        splits[split] = replace(info, index_hash=digest)
    return replace(draft.assembled, info=replace(draft.assembled.info, splits=splits))


def _raw_names(assembly: Assembly) -> dict[str, str]:
    """Safe name -> name, of all skills; raises InputError if two would have one name."""
    known = assembly.destination.existing.splits
    found: dict[str, SkillRecord] = {}
    for part in assembly.parts:
        for skill, record in part.record.skills.items():
            other = found.setdefault(skill, record)
            if other.raw_name != record.raw_name and not known(skill):
                places = [
                    one.sources[0]['file'] if one.sources else 'a bad record' for one in (record, other)
                ]
                raise clash(other.raw_name, record.raw_name, skill, *places)
    return {skill: record.raw_name for skill, record in found.items()}


def _drafts(
    assembly: Assembly, skills: Iterable[str], advance: Callable[[], None]
) -> tuple[dict[str, SkillDraft], dict[str, TooSmallError]]:
    """What there will be of each skill, and what is wrong with those that are too small."""
    drafts: dict[str, SkillDraft] = {}
    small: dict[str, TooSmallError] = {}
    for skill in sorted(skills):
        try:
            draft = draft_skill(assembly, skill)
        except TooSmallError as error:
            small[skill] = error
        else:
            if draft is not None:
                drafts[skill] = draft
        advance()
    return drafts, small


def _samples_of(draft: SkillDraft) -> int:
    return sum(split.samples for split in draft.assembled.info.splits.values())


def _amount_of(assembly: Assembly, skill: str) -> Amount:
    """All documents of a skill, and their tokens."""
    total = Amount()
    for folder, record in parts_of(assembly, skill):
        for split in (record.train, record.eval):
            total += Amount(split.tokens, split.documents)
        for document in SpooledSkill(folder, record.spool, assembly.tokenizer.dtype).documents('held'):
            total += amount_of(document)
    return total


def unplaced(assembly: Assembly, skills: Container[str]) -> dict[str, int]:
    """Counts of bad records of no known skill, or of a skill that no document is left of."""
    total: Counter[str] = Counter()
    for part in assembly.parts:
        total.update(part.record.faults)
        for skill, record in part.record.skills.items():
            if skill not in skills:
                total.update(record.faults)
    return dict(sorted((reason, count) for reason, count in total.items() if count))
