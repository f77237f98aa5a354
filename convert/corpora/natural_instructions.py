"""Natural Instructions (v2): tasks in JSON, each with a definition and instances of input and outputs.

PATH is a clone of the data set (``tasks/`` and ``splits/`` in it), a folder of tasks, or tasks. A skill is what
``--slicer`` names, joined by ``-``, in lower case with ``_`` between words: ``question_generation``, or with
languages ``question_generation-spanish-spanish``; a dot stays, as in the ``misc.`` of the published lists. The first
category of a task counts. ``--min-instances`` leaves small tasks out of training; the published experiments have 100,
and 200 across languages (HazyResearch/skill-it, dataset/ni_dataset.py).

``--stream-per task`` makes a train stream of each task, ``question_generation--task001_quoref``, beside the eval
streams of the skills. With ``groups: '--'`` among the options of ``data_mixing`` a skill's proportion is then
shared evenly among its tasks, as in the published code, which draws a task uniformly and fills a sample with
instances of that task. An instance that a task has twice may then be in train and in eval, as there.

A document is one instance: definition, ``Input: ...``, ``Output: ...``; the answer is its first output that is
not empty.

Every task has a development set that becomes eval: by default its first ``--dev-instances`` instances (the
ones that the data set's own evaluation takes), but never more than half of them, so that each task can be
trained on; or the instances that ``--dev-split`` files list. Test tasks (``--split test``,
``xlingual-test``) are never trained on: their development instances are eval, the others are passed over.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import Document, FileCorpus, Tap
from skillit_stream.convert.dev_split import DevSplit, read_dev_split
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile, form_of, pass_over
from skillit_stream.convert.json_files import parse_whole
from skillit_stream.convert.options import (
    INSTRUCTIONS,
    add_corpus_arguments,
    add_options,
    check_positive,
)
from skillit_stream.convert.readers import HashingFile, open_input, read_lines
from skillit_stream.convert.rows import Row, check_row, find_text
from skillit_stream.convert.skill_options import read_list

HELP = 'Natural Instructions: skills are task categories, with or without languages'
# --slicer -> the key of a task; the names are those that the published graphs were made with.
SLICERS = {
    'task_category': 'Categories',
    'input_language': 'Input_language',
    'output_language': 'Output_language',
}
# --split -> lists of tasks in a clone, each with whether its tasks are trained on.
SPLITS = {
    'train': [('default/train_tasks.txt', True)],
    'test': [('default/test_tasks.txt', False)],
    'train+test': [('default/train_tasks.txt', True), ('default/test_tasks.txt', False)],
    'xlingual': [('xlingual/train_tasks.txt', True)],
    'xlingual-test': [('xlingual/test_tasks.txt', False)],
}
REMEDY = 'check that it is a task of Natural Instructions v2'
OPTIONS = (
    (
        '--slicer',
        'what a skill is (default: task_category)',
        {'nargs': '+', 'choices': list(SLICERS), 'default': ['task_category']},
    ),
    ('--skills', 'only these: names with commas, or a .txt file', {'metavar': 'LIST'}),
    ('--split', 'only the tasks of this split of the clone', {'choices': list(SPLITS)}),
    ('--task-list', 'only the tasks in this file, one a line', {'metavar': 'FILE'}),
    (
        '--dev-split',
        'instances for eval: .json or .pkl, task name to indices',
        {'nargs': '+', 'metavar': 'FILE'},
    ),
    (
        '--min-instances',
        'leave out tasks to train on that have fewer instances (default: none is)',
        {'type': int, 'metavar': 'N'},
    ),
    (
        '--dev-instances',
        'without --dev-split: instances of a task for eval (100)',
        {'type': int, 'metavar': 'N'},
    ),
    (
        '--max-instances',
        'train on the first N of a task only, those for eval not counted',
        {'type': int, 'metavar': 'N'},
    ),
    (
        '--stream-per',
        'a train stream for each skill (default), or for each task, named SKILL--TASK',
        {'choices': ['skill', 'task'], 'default': 'skill'},
    ),
    (
        '--prompt',
        "begin with the task's definition (default), or not",
        {'choices': ['definition', 'instance'], 'default': 'definition'},
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert natural-instructions`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='clone of the data set, or tasks')
    add_options(parser, (*OPTIONS, *INSTRUCTIONS))
    add_corpus_arguments(parser)


class NaturalInstructions(FileCorpus):
    """The tasks of Natural Instructions at and below the PATHs."""

    name = 'natural-instructions'

    def __init__(self, args: argparse.Namespace) -> None:
        check_positive(args, 'dev_instances', 'max_instances', 'min_instances')
        if args.dev_split and args.dev_instances is not None:
            raise InputError('--dev-instances: has no meaning with --dev-split; leave one of them out')
        super().__init__(
            [
                os.path.join(path, 'tasks') if os.path.isdir(os.path.join(path, 'tasks')) else path
                for path in args.paths  # of a clone only its tasks
            ]
        )
        self.args = args
        self.skills = frozenset(read_list(args.skills, '--skills')) if args.skills else None
        self.trained = _task_lists(args)
        self.dev = read_dev_split(args.dev_split) if args.dev_split else DevSplit(args.dev_instances or 100)

    def inputs(self) -> list[InputFile]:
        """The tasks that the options ask for.

        Raises:
            InputError: There are none, or a skill, or a task of the lists, is not among them.
        """
        tasks = [file for file in super().inputs() if form_of(file.path) == '.json']
        if self.trained is not None:
            tasks = [file for file in tasks if task_name(file) in self.trained]
            _check_all(self.trained, map(task_name, tasks), 'tasks of the list', self.args.paths)
        if self.skills is not None or self.args.min_instances:
            tasks = self._choose(tasks)
        if not tasks:
            raise InputError(
                f'{", ".join(self.args.paths)}: none of the tasks asked for; check PATH and --split'
            )
        return tasks

    def options(self) -> Mapping[str, Any]:
        """What decides on the documents."""
        names = ('slicer', 'split', 'dev_instances', 'min_instances', 'max_instances', 'prompt')
        given = {name: getattr(self.args, name) for name in names if getattr(self.args, name) is not None}
        by_task = {'stream_per': 'task'} if self.args.stream_per == 'task' else {}
        return {**given, **by_task, 'dev': self.dev.hash}

    def decisions(self) -> Mapping[str, Any]:
        """Which tasks the lists have trained on."""
        return {'trained': self.trained}

    def documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        """The documents of an open task."""
        try:
            task = check_row(parse_whole(read_lines(raw, file.path), file.path), file.path)
            skill = skill_of(task, self.args.slicer, file.path)
            definition = _definition(task, file.path) if self.args.prompt == 'definition' else ''
            instances = _instances(task, file.path)
            dev = self.dev.indices(task_name(file), len(instances), file.path)
        except BadRecordError as fault:
            yield fault
            return
        train_stream = f'{skill}--{task_name(file)}' if self.args.stream_per == 'task' else skill
        to_train = (self.args.max_instances or len(instances)) if self._is_trained_on(file) else 0
        for index, instance in enumerate(instances):
            split, stream = ('eval', skill) if index in dev else ('train', train_stream)
            if split == 'train':
                to_train -= 1
                if to_train < 0:
                    continue
            where = f'{file.path}: instance {index}'
            try:
                yield document_of(check_row(instance, where), definition, stream, split, where)
            except BadRecordError as fault:
                fault.skill = stream
                yield fault

    def _is_trained_on(self, file: InputFile) -> bool:
        return self.trained is None or self.trained[task_name(file)]

    def _choose(self, tasks: list[InputFile]) -> list[InputFile]:
        """The tasks of the skills that are asked for, without small ones; those that are unreadable stay.

        Raises:
            InputError: A skill is not among them, or has small tasks alone.
        """
        peeked = {file: self._peek(file) for file in tasks}
        wanted = self.skills
        if wanted is not None:
            _check_all(wanted, (one[0] for one in peeked.values() if one), '--skills', self.args.paths)
            peeked = {file: one for file, one in peeked.items() if one is None or one[0] in wanted}
        least = self.args.min_instances or 0
        small = {file for file, one in peeked.items() if one and one[1] < least and self._is_trained_on(file)}
        pass_over(len(small), f'of fewer than {least} instances')
        kept = [file for file in peeked if file not in small]
        gone = sorted((wanted or frozenset()) - {one[0] for file in kept if (one := peeked[file])})
        if gone:
            raise InputError(f'--min-instances {least}: leaves out all tasks of {", ".join(gone)}; lower it')
        return kept

    def _peek(self, file: InputFile) -> tuple[str, int] | None:
        """Skill and number of instances of a task; None if it is unreadable, which `read` reports."""
        try:
            with open_input(file, Tap(lambda _: None)) as raw:
                task = check_row(parse_whole(read_lines(raw, file.path), file.path), file.path)
                return skill_of(task, self.args.slicer, file.path), len(_instances(task, file.path))
        except BadRecordError:
            return None


corpus = NaturalInstructions


def task_name(file: InputFile) -> str:
    """The name of a task: its file's, without suffixes."""
    return file.name.rsplit('/', 1)[-1].split('.json')[0]


def skill_of(task: Row, slicer: list[str], where: str) -> str:
    """The skill of a task by the parts that the slicer names.

    Raises:
        BadRecordError: The task lacks one.
    """
    parts = []
    for part in slicer:
        values = task.get(SLICERS[part])
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise _no_task(SLICERS[part], where)
        # A task has one category that counts, but can have two languages side by side.
        values = values[:1] if part == 'task_category' else values
        parts.append('_'.join(re.sub(r'[^\w.]+', '_', value.lower()).strip('_') for value in values))
    return '-'.join(parts)


def document_of(instance: Row, definition: str, skill: str, split: str, where: str) -> Document:
    """The document of an instance.

    Raises:
        BadRecordError: It has no input or no output.
    """
    outputs = instance.get('output')
    answer = next(filter(None, outputs), '') if isinstance(outputs, list) else outputs
    answer = find_text({'output': answer}, 'output', where, REMEDY)
    question = find_text(instance, 'input', where, REMEDY)
    begin = f'{definition}\n\n' if definition else ''
    return Document(skill, f'{begin}Input: {question}\nOutput: ', answer, split)


def _instances(task: Row, where: str) -> list[Any]:
    instances = task.get('Instances')
    if not isinstance(instances, list):
        raise _no_task('Instances', where)
    return instances


def _definition(task: Row, where: str) -> str:
    texts = task.get('Definition')
    text = texts[0] if isinstance(texts, list) and texts else texts
    if not isinstance(text, str):
        raise _no_task('Definition', where)
    return text.strip()


def _no_task(key: str, where: str) -> BadRecordError:
    return BadRecordError('broken_task', where=where, what=f'a task without a proper {key!r}', remedy=REMEDY)


def _task_lists(args: argparse.Namespace) -> dict[str, bool] | None:
    """Tasks asked for, each with whether it is trained on; None: all, trained on.

    Raises:
        InputError: A list cannot be read, or two are asked for.
    """
    if args.split and args.task_list:
        raise InputError('--task-list: has no meaning with --split; leave one of them out')
    if args.task_list:
        return dict.fromkeys(read_list(args.task_list, '--task-list', file=True), True)
    if not args.split:
        return None
    [*others, root] = args.paths
    if others:
        raise InputError(
            f'--split {args.split}: PATH must be one clone of the data set, but got: {args.paths}'
        )
    return {
        name: trained
        for path, trained in SPLITS[args.split]
        for name in read_list(os.path.join(root, 'splits', path), f'--split {args.split}', file=True)
    }


def _check_all(wanted: Any, found: Iterator[str], what: str, paths: list[str]) -> None:
    missing = sorted(set(wanted) - set(found))
    if missing:
        names = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise InputError(
            f'{what}: {len(missing)} of {len(wanted)} not in {", ".join(paths)} ({names}); check the names'
        )
