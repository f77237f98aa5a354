"""LEGO: k Boolean variables that depend on each other, one skill for each, in Skill-It's authors' format.

A sentence is ``Input:  b = not c ,  a = val b , c = val 1. Output: a = val 0, ``: a variable without a parent has
a value, each other one is the value (``val``) or the opposite (``not``) of its parent; the clauses stand in
random order and the variables are random letters. Skill ``variable_i`` asks for the i-th variable, which
takes the clauses of all its ancestors. The shapes are those that the authors' generator names:

- ``chain``: the parent of each variable is the one before it;
- ``tree``: a full binary tree in breadth-first order, the parent of variable i being variable i // 2;
- ``disconnected``: two chains, of the first half of the variables (rounded up) and of the others. So says a comment
  of the authors' generator; what it makes is two stars, whose first variable is the parent of all the others.

The graph: by default the one that generates the sentences, each variable helping its children.
``published`` (a chain of 5) is the one the authors' experiments use, found by training: the second variable
helps the first, third and fourth as well, and the others stand alone.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.generated import (
    Example,
    GeneratedCorpus,
    add_example_arguments,
    check_counts,
    choose_graph,
)
from skillit_stream.convert.sampling import check_space, distinct_draws

HELP = 'generated variables that depend on each other: skills are the variables asked for'
Parents = Sequence[int | None]
"""The parent of each variable, which comes before it; None for one without."""

SHAPES: dict[str, Callable[[int], Parents]] = {
    'chain': lambda size: [None, *range(size - 1)],
    'tree': lambda size: [None, *((i - 1) // 2 for i in range(1, size))],
    'disconnected': lambda size: [None if i in (0, (size + 1) // 2) else i - 1 for i in range(size)],
}
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
    parser.add_argument('--skills', type=int, default=5, metavar='K', help='variables (5)')
    parser.add_argument(
        '--shape', choices=list(SHAPES), default='chain', help='how the variables depend (default: chain)'
    )
    add_example_arguments(parser, graph_default='the shape')


def corpus(args: argparse.Namespace) -> GeneratedCorpus:
    """The sentences.

    Raises:
        InputError: An option is out of range, or options do not fit together.
    """
    check_counts(args, 'skills', len(LETTERS))
    if args.shape == 'chain':
        shape = {}
        name, graph = choose_graph(args, args.skills, PUBLISHED, default='chain')
    elif args.graph is None:
        shape = {'shape': args.shape}
        name, graph = args.shape, graph_of(SHAPES[args.shape](args.skills))
    else:
        raise InputError(f'--graph {args.graph}: is one of --shape chain, not of {args.shape}; leave it out')
    skills = [f'variable_{number + 1}' for number in range(args.skills)]
    return Lego(args, skills, graph, {'skills': args.skills, **shape, 'seed': args.seed, 'graph': name})


class Lego(GeneratedCorpus):
    """Variables that depend on each other."""

    name = 'lego'
    vocabulary = VOCABULARY

    def space(self, number: int) -> int:
        """Sentences that ask for the variable."""
        return space_of(number, length=len(self.skills), shape=self.args.shape)

    def examples(self, number: int, count: int) -> Iterator[Example]:
        """Different sentences that ask for the variable."""
        return examples_of(
            number, length=len(self.skills), count=count, seed=self.args.seed, shape=self.args.shape
        )


def graph_of(parents: Parents) -> list[list[float]]:
    """The graph where each variable helps itself and its children."""
    graph = np.eye(len(parents))
    for child, parent in enumerate(parents):
        if parent is not None:
            graph[parent, child] = 1
    return graph.tolist()


def examples_of(asked: int, *, length: int, count: int, seed: int, shape: str = 'chain') -> Iterator[Example]:
    """Draw `count` different sentences that ask for variable `asked` (from 0) of `length`.

    Raises:
        InputError: There are fewer than `count`.
    """
    label = f'variable_{asked + 1}'
    alike = symmetries(SHAPES[shape](length), asked)
    check_space(label, count, space_of(asked, length=length, shape=shape))
    # As each sentence has so many numbers, no fewer than `count` sentences are among these.
    draws = distinct_draws(numbers_of(length), count * alike, seed=seed, label=label)
    examples = (example_of(draw, asked=asked, length=length, shape=shape) for draw in draws)
    return examples if alike == 1 else _first_different(examples, count)


def numbers_of(length: int) -> int:
    """How many numbers :func:`example_of` takes."""
    return 2**length * math.perm(len(LETTERS), length) * math.factorial(length)


def space_of(asked: int, *, length: int, shape: str) -> int:
    """How many different sentences ask for variable `asked`."""
    return numbers_of(length) // symmetries(SHAPES[shape](length), asked)


def symmetries(parents: Parents, asked: int) -> int:
    """In how many ways the variables can change places, the one asked for staying, without another sentence.

    In a chain there is one; the two children of a variable of a tree can be exchanged if all below them is
    alike.
    """

    def visit(node: int | None) -> tuple[tuple, int]:
        forms, count = [], 1
        for child, parent in enumerate(parents):
            if parent == node:
                form, inner = visit(child)
                forms.append((child == asked, form))
                count *= inner
        for same in Counter(forms).values():
            count *= math.factorial(same)
        return tuple(sorted(forms)), count

    return visit(None)[1]


def example_of(draw: int, *, asked: int, length: int, shape: str = 'chain') -> Example:
    """The sentence of number `draw`: each number of a chain gives another one.

    Read as digits of a mixed radix, the number is the values (2^length), the letters (ordered choices of
    `length` of 26) and the order of the clauses (length!), all of which can be read off the sentence again,
    but for which of two variables alike is which.
    """
    draw, bits = divmod(draw, 2**length)
    values = [bits >> i & 1 for i in range(length)]
    draw, choice = divmod(draw, math.perm(len(LETTERS), length))
    variables = _arrange(choice, LETTERS, length)
    clauses = []
    for i, parent in enumerate(SHAPES[shape](length)):
        if parent is None:
            clauses.append(f'{variables[i]} = val {values[i]} , ')
        else:
            how = 'val' if values[i] == values[parent] else 'not'
            # The reference writes a space before each clause but those without a parent.
            clauses.append(f' {variables[i]} = {how} {variables[parent]} , ')
    body = ''.join(_arrange(draw, clauses, length)).removesuffix(' , ')
    question = f'Input: {body}. Output: {variables[asked]} = val '
    return Example(question, str(values[asked]), str(1 - values[asked]), ', ')


def _first_different(examples: Iterator[Example], count: int) -> Iterator[Example]:
    seen: set[str] = set()
    for example in examples:
        if len(seen) == count:
            return
        if example.text not in seen:
            seen.add(example.text)
            yield example


def _arrange(number: int, items: list[str] | str, length: int) -> list[str]:
    """The arrangement of that number among the ordered choices of `length` items."""
    left = list(items)
    arranged = []
    for _ in range(length):
        number, index = divmod(number, len(left))
        arranged.append(left.pop(index))
    return arranged
