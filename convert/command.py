"""`skillit convert CORPUS ...`: one subcommand a corpus."""

import argparse
from time import perf_counter

from skillit_stream.base.errors import OneLineParser
from skillit_stream.base.names import number_of
from skillit_stream.base.terminal import print_line
from skillit_stream.convert.pipeline import Conversion, convert
from skillit_stream.convert.runners import load_module
from skillit_stream.convert.summary import MOST_NAMED, print_next, print_speed, print_summary

# A corpus is a module, or an object in one, with HELP, add_arguments(parser) and corpus(args) -> Corpus.
CORPORA = {
    'redpajama': 'skillit_stream.convert.corpora.published:REDPAJAMA',
    'redpajama-v2': 'skillit_stream.convert.corpora.redpajama_v2',
    'slimpajama': 'skillit_stream.convert.corpora.published:SLIMPAJAMA',
    'pile': 'skillit_stream.convert.corpora.published:PILE',
    'law': 'skillit_stream.convert.corpora.published:LAW',
    'jsonl': 'skillit_stream.convert.corpora.jsonl',
    'parquet': 'skillit_stream.convert.corpora.parquet',
    'text': 'skillit_stream.convert.corpora.text',
    'hf': 'skillit_stream.convert.corpora.hf',
    'natural-instructions': 'skillit_stream.convert.corpora.natural_instructions',
    'alpaca': 'skillit_stream.convert.corpora.alpaca',
    'addition': 'skillit_stream.convert.corpora.addition',
    'lego': 'skillit_stream.convert.corpora.lego',
}
CUSTOM_HELP = (
    "a corpus of one's own: a Python file with row(row), which returns (skill, text), or with corpus(args)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each corpus."""
    corpora = parser.add_subparsers(dest='corpus', metavar='CORPUS', required=True)
    for name, path in CORPORA.items():
        module = load_module(path)
        corpus = corpora.add_parser(name, help=module.HELP, description=module.HELP)
        corpus.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks')
        module.add_arguments(corpus)
    custom = corpora.add_parser('custom', help=CUSTOM_HELP, description=CUSTOM_HELP, add_help=False)
    custom.add_argument('module', metavar='FILE.py', help='the corpus; its own options follow')
    custom.add_argument('rest', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Convert the corpus and print what came of it."""
    path = CORPORA.get(args.corpus, '')
    if args.corpus == 'custom':
        path, args = args.module, _parse_custom(args)
    began = perf_counter()
    conversion = convert(path, args)
    if conversion.files:
        print_line(conversion.files)
    if conversion.boundaries:
        print_line(conversion.boundaries)
    if conversion.passed_over:
        named = [
            *conversion.passed_over[:MOST_NAMED],
            *(['...'] if len(conversion.passed_over) > MOST_NAMED else []),
        ]
        print_line(f'passed over, in the streams already: {", ".join(named)}')
    for skill, names in conversion.called.items():
        print_line(f'{skill}: has the documents of {", ".join(map(repr, names))}')
    if conversion.manifest is None:
        print(
            f'task {args.task}: {conversion.done} of {number_of(conversion.parts, "part")} '
            f'{"is" if conversion.parts == 1 else "are"} done; when all tasks have ended, run the same command '
            'without --task'
        )
        return 0
    print_summary(conversion.manifest, args.out)
    seconds = perf_counter() - began
    print_speed(conversion.manifest, seconds, kept=conversion.kept, parts=conversion.parts)
    if conversion.encoder:
        print(f'encoded by {conversion.encoder}{_checked_in_words(conversion)}')
    print_next(args.out, added=getattr(args, 'add', False))
    return 0


def _checked_in_words(conversion: Conversion) -> str:
    if not conversion.checked or conversion.encoder == 'tokenizers':
        return ''
    return (
        f', {number_of(conversion.checked, "document")} by the tokenizer itself as well, without a difference'
    )


def _parse_custom(args: argparse.Namespace) -> argparse.Namespace:
    """The options of a corpus in a file of the user's."""
    module = load_module(args.module)
    help_text = getattr(module, 'HELP', None)
    parser = OneLineParser(prog=f'skillit convert custom {args.module}', description=help_text)
    module.add_arguments(parser)
    return parser.parse_args(args.rest)
