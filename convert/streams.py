"""`skillit streams list | rename | drop | merge`: the skills of finished streams, whose shards stay as they are."""

import argparse
import os
import shlex
import tempfile

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import is_url
from skillit_stream.convert.changed_folder import folder_to_change, make_change
from skillit_stream.convert.contents import foreign_entries
from skillit_stream.convert.existing import BOUNDS
from skillit_stream.convert.skill_changes import Wish, plan_change
from skillit_stream.convert.summary import print_next, print_summary
from skillit_stream.formats.manifest import ChangeInfo, Manifest
from skillit_stream.formats.remote_folder import fetch_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit streams`."""
    actions = parser.add_subparsers(dest='action', metavar='list|rename|drop|merge', required=True)
    for name, text in (
        ('list', 'what there is of each skill, and what a corpus calls it'),
        ('rename', 'call a skill by another name'),
        ('drop', 'delete the streams of skills'),
        ('merge', 'make one skill of several: their shards, one after the other'),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument('streams', metavar='STREAMS', help='streams folder')
        if name == 'rename':
            action.add_argument('skills', nargs=1, metavar='OLD', help='a skill')
            action.add_argument('into', metavar='NEW', help='its new name')
        elif name != 'list':
            action.add_argument('skills', nargs='+', metavar='SKILL', help='a skill')
        if name == 'merge':
            help_line = 'what they are called together: a new name, or one of theirs'
            action.add_argument('--into', required=True, metavar='NEW', help=help_line)
        action.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks')


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    if args.action == 'list':
        _list(args.streams)
        return 0
    if is_url(args.streams):
        raise InputError(
            f'{args.streams}: is in an object store, where nothing can be renamed; fetch the folder, change it there '
            'and upload it to another place'
        )
    root = os.path.realpath(args.streams)
    wish = Wish(_typed(args), args.action, args.skills, getattr(args, 'into', ''))
    if not os.path.isdir(root):
        Manifest.load(root)
    with folder_to_change(root) as finished:
        if finished != wish.command:
            make_change(root, plan_change(root, Manifest.load(root), wish))
    manifest = Manifest.load(root)
    done = manifest.changes[-1]
    print(f'{args.streams}: {_in_words(done)}')
    if done.action == 'merge' and done.into not in manifest.corpus.get(BOUNDS, {}):
        print(
            f'{done.into}: what was merged had been split differently: a document that two of them had may be in train '
            'and in eval, and nothing can be added'
        )
    stayed = [
        one
        for one in foreign_entries(root)
        if one.split(os.sep)[0] in done.skills and done.action != 'rename'
    ]
    if stayed:
        print(
            f'what is not of the streams stayed: {", ".join(stayed[:3])}{", ..." if len(stayed) > 3 else ""}'
        )
    print_next(args.streams)
    return 0


def _list(streams: str) -> None:
    """Print a table of the skills, what a corpus calls them, and what was done to them."""
    if is_url(streams):
        with tempfile.TemporaryDirectory() as folder:
            manifest = fetch_manifest(streams, folder)
    else:
        manifest = Manifest.load(streams)
    print_summary(manifest, streams)
    for skill, info in manifest.skills.items():
        if info.names:
            print(f'{skill}: has the documents of {", ".join(map(repr, info.names))}')
    for change in manifest.changes:
        print(f'{change.date}: {_in_words(change)}')


def _typed(args: argparse.Namespace) -> str:
    """The command line that finishes a change that was stopped."""
    where = os.path.realpath(args.streams)
    into = {'rename': [getattr(args, 'into', '')], 'merge': ['--into', getattr(args, 'into', '')]}
    words = [where, *args.skills, *into.get(args.action, [])]
    return f'skillit streams {args.action} {shlex.join(words)}'


def _in_words(change: ChangeInfo) -> str:
    names = ', '.join(map(repr, change.skills))
    if change.action == 'drop':
        return f'{names} dropped'
    return f'{names} {"renamed to" if change.action == "rename" else "merged into"} {change.into!r}'
