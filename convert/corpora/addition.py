"""Addition: one skill for each digit of the sum, in the sentence format of Skill-It's authors.

A sentence is ``Input: A = 1 5 3 + 2 3 1 , A 0 = ? Output: 4``; ``A 0`` is the ones digit of the sum, ``A 1``
the tens digit, and so on; skill ``digit_0`` asks for ``A 0``. A carry beyond the last digit is never asked
for. Unlike the authors' generator this one draws the largest number too, and no sentence twice.

The graph: for three digits ``published``, the one the authors' experiments use, found by training, in which
the tens digit helps the ones digit and the hundreds digit stands alone. It is not the graph of who needs
whose carry; that one is ``chain``, each digit helping the next higher, the default for other numbers of
digits.
"""

import argparse
from collections.abc import Iterator

from skillit_stream.convert.generated import (
    Example,
    GeneratedCorpus,
    add_example_arguments,
    check_counts,
    choose_graph,
)
from skillit_stream.convert.sampling import distinct_draws

HELP = 'generated sums: skills are the digits asked for'
MOST_DIGITS = 18
VOCABULARY = ['Input:', 'Output:', 'A', '=', '+', ',', '?', *'0123456789']
PUBLISHED = {3: [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert addition`."""
    parser.add_argument('--digits', type=int, default=3, metavar='K', help='digits of each number (3)')
    add_example_arguments(parser, graph_default='published for 3 digits, else chain')


def corpus(args: argparse.Namespace) -> GeneratedCorpus:
    """The sums.

    Raises:
        InputError: An option is out of range.
    """
    check_counts(args, 'digits', MOST_DIGITS)
    default = 'published' if args.digits in PUBLISHED else 'chain'
    name, graph = choose_graph(args, args.digits, PUBLISHED, default=default)
    skills = [f'digit_{digit}' for digit in range(args.digits)]
    return Addition(args, skills, graph, {'digits': args.digits, 'seed': args.seed, 'graph': name})


class Addition(GeneratedCorpus):
    """Sums."""

    name = 'addition'
    vocabulary = VOCABULARY

    def space(self, number: int) -> int:
        """Pairs of numbers."""
        del number
        return 100**self.args.digits

    def examples(self, number: int, count: int) -> Iterator[Example]:
        """Different sums that ask for the digit."""
        return examples_of(number, digits=self.args.digits, count=count, seed=self.args.seed)


def examples_of(digit: int, *, digits: int, count: int, seed: int) -> Iterator[Example]:
    """Draw `count` different sums that ask for `digit` (0: the ones).

    Raises:
        InputError: There are fewer than `count` pairs of numbers.
    """
    numbers = 10**digits
    draws = distinct_draws(numbers**2, count, seed=seed, label=f'digit_{digit}')
    return (example_of(*divmod(draw, numbers), digit=digit, digits=digits) for draw in draws)


def example_of(first: int, second: int, *, digit: int, digits: int) -> Example:
    """The sentence that asks for `digit` of ``first + second``, both written with `digits` digits."""
    left, right = (' '.join(f'{number:0{digits}d}') for number in (first, second))
    answer = (first + second) // 10**digit % 10
    question = f'Input: A = {left} + {right} , A {digit} = ? Output: '
    # The next digit, so that of ten answers no two kinds are never compared.
    return Example(question, str(answer), str((answer + 1) % 10))
