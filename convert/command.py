"""`skillit convert CORPUS ...`: one subcommand a corpus."""

import argparse
import importlib

from skillit_stream.convert.progress import print_summary

# A corpus is a module with HELP, add_arguments(parser) and run(args) -> Manifest.
CORPORA = {
    'redpajama': 'skillit_stream.convert.redpajama',
    'jsonl': 'skillit_stream.convert.jsonl',
    'addition': 'skillit_stream.convert.addition',
    'lego': 'skillit_stream.convert.lego',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each corpus."""
    corpora = parser.add_subparsers(dest='corpus', metavar='CORPUS', required=True)
    for name, path in CORPORA.items():
        module = importlib.import_module(path)
        corpus = corpora.add_parser(name, help=module.HELP, description=module.HELP)
        corpus.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks')
        module.add_arguments(corpus)


def run(args: argparse.Namespace) -> int:
    """Convert the corpus and print what came of it."""
    manifest = importlib.import_module(CORPORA[args.corpus]).run(args)
    print_summary(manifest, args.out)
    return 0
