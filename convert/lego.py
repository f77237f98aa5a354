"""LEGO: chains of k Boolean variables, one skill for each variable asked for, in Skill-It's authors' format.

A sentence is ``Input:  b = not c ,  a = val b , c = val 1. Output: a = val 0, ``: the first variable of the
chain has a value, each later one is the value (``val``) or the opposite (``not``) of the one before; the
clauses stand in random order and the variables are random letters. Skill ``variable_i`` asks for the i-th
variable of the chain, which takes all the clauses before it.

The graph: by default ``chain``, the one that generates the sentences, each variable helping the next.
``published`` (k = 5) is the one the authors' experiments use, found by training: the second variable helps
the first, third and fourth as well, and the others stand alone.
"""

import argparse
import math
from collections.abc import Iterator

from skillit_stream.convert.examples import (
    Example,
    GeneratedCorpus,
    add_example_arguments,
    check_counts,
    choose_graph,
    convert_generated,
)
from skillit_stream.convert.sampling import distinct_draws
from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import Manifest

HELP = 'generated chains of variables: skills are the variables asked for'
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
VOCABULARY = ['Input:', 'Output:', 'val', 'not', '=', ',', '.', '0', '1', *LETTERS]
PUBLISHED = {
    5: [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert lego`."""
    parser.add_argument('--skills', type=int, default=5, metavar='K', help='variables in the chain (5)')
    add_example_arguments(parser, graph_default='chain')


def run(args: argparse.Namespace) -> Manifest:
    """Generate the chains."""
    if not 1 <= args.skills <= len(LETTERS):
        raise InputError(f'--skills must lie between 1 and {len(LETTERS)}, but got: {args.skills}')
    check_counts(args)
    graph_name, graph = choose_graph(args, args.skills, PUBLISHED, default='chain')
    count = args.train_samples + args.eval_samples
    corpus = GeneratedCorpus(
        name='lego',
        vocabulary=VOCABULARY,
        examples={
            f'variable_{skill + 1}': examples_of(skill, length=args.skills, count=count, seed=args.seed)
            for skill in range(args.skills)
        },
        graph=graph,
        options={'skills': args.skills, 'seed': args.seed, 'graph': graph_name},
    )
    return convert_generated(args, corpus)


def examples_of(asked: int, *, length: int, count: int, seed: int) -> Iterator[Example]:
    """Draw `count` different sentences that ask for variable `asked` (from 0) of a chain of `length`.

    Raises:
        InputError: There are fewer than `count`.
    """
    space = 2**length * math.perm(len(LETTERS), length) * math.factorial(length)
    draws = distinct_draws(space, count, seed=seed, label=f'variable_{asked + 1}')
    return (example_of(draw, asked=asked, length=length) for draw in draws)


def example_of(draw: int, *, asked: int, length: int) -> Example:
    """The sentence of number `draw`: each number gives another one.

    Read as digits of a mixed radix, the number is the values (2^length), the letters (ordered choices of
    `length` of 26) and the order of the clauses (length!), all of which can be read off the sentence again.
    """
    draw, bits = divmod(draw, 2**length)
    values = [bits >> i & 1 for i in range(length)]
    draw, choice = divmod(draw, math.perm(len(LETTERS), length))
    variables = _arrange(choice, LETTERS, length)
    # The reference writes a space before each clause but the first of the chain.
    clauses = [f'{variables[0]} = val {values[0]} , ']
    for i in range(1, length):
        how = 'val' if values[i] == values[i - 1] else 'not'
        clauses.append(f' {variables[i]} = {how} {variables[i - 1]} , ')
    body = ''.join(_arrange(draw, clauses, length)).removesuffix(' , ')
    return Example(f'Input: {body}. Output: {variables[asked]} = val ', str(values[asked]), ', ')


def _arrange(number: int, items: list[str] | str, length: int) -> list[str]:
    """The arrangement of that number among the ordered choices of `length` items."""
    left = list(items)
    arranged = []
    for _ in range(length):
        number, index = divmod(number, len(left))
        arranged.append(left.pop(index))
    return arranged
