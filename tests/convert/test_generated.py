"""Addition and LEGO: right answers, the mask on them alone, and no sentence twice."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.convert.corpora import addition, lego
from skillit_stream.convert.generated import chain_graph
from skillit_stream.convert.sampling import PERMUTED_SPACE, distinct_draws
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.paths import GOLDEN
from tests.support.streams_reading import left_in, read_split


def solve_addition(text: str) -> int:
    first, second, digit = re.fullmatch(
        r'Input: A = ([\d ]+) \+ ([\d ]+) , A (\d+) = \? Output: \d', text
    ).groups()  # type: ignore[union-attr]
    total = int(first.replace(' ', '')) + int(second.replace(' ', ''))
    return int(str(total).zfill(30)[::-1][int(digit)])


def solve_lego(text: str) -> int:
    """Follow the clauses from the variable asked for back to the one with a value."""
    body, asked = re.fullmatch(r'Input: (.*)\. Output: (\w) = val [01], ', text).groups()  # type: ignore[union-attr]
    rules = dict(clause.strip().split(' = ') for clause in body.split(' , '))
    flips = 0
    while True:
        how, source = rules[asked].split()
        flips += how == 'not'
        if source in '01':
            return (int(source) + flips) % 2
        asked = source


def test_the_sentences_are_those_of_the_reference():
    assert addition.example_of(153, 78, digit=0, digits=3).text == (
        'Input: A = 1 5 3 + 0 7 8 , A 0 = ? Output: 1'
    )
    draws = {lego.example_of(draw, asked=1, length=2).text for draw in range(4 * 26 * 25 * 2)}
    assert 'Input: c = val 1 ,  x = not c. Output: x = val 0, ' in draws
    assert 'Input:  x = val c , c = val 0. Output: x = val 0, ' in draws


@given(digits=st.integers(1, 6), data=st.data())
def test_addition_answers_are_right(digits, data):
    numbers = st.integers(0, 10**digits - 1)
    example = addition.example_of(
        data.draw(numbers), data.draw(numbers), digit=data.draw(st.integers(0, digits - 1)), digits=digits
    )
    assert int(example.answer) == solve_addition(example.text)


@given(length=st.integers(1, 26), data=st.data())
def test_lego_answers_are_right(length, data):
    space = 2**length * math.perm(26, length) * math.factorial(length)
    asked = data.draw(st.integers(0, length - 1))
    example = lego.example_of(data.draw(st.integers(0, space - 1)), asked=asked, length=length)
    assert int(example.answer) == solve_lego(example.text)


def test_every_lego_number_is_another_sentence():
    space = 2**2 * math.perm(26, 2) * 2
    assert len({lego.example_of(draw, asked=0, length=2).text for draw in range(space)}) == space


@pytest.mark.parametrize('space', [100, PERMUTED_SPACE, PERMUTED_SPACE + 1, 2**200])
def test_draws_are_distinct_and_repeatable(space):
    draws = list(distinct_draws(space, 90, seed=3, label='x'))
    assert len(set(draws)) == 90
    assert min(draws) >= 0
    assert max(draws) < space
    assert draws == list(distinct_draws(space, 90, seed=3, label='x'))
    assert draws != list(distinct_draws(space, 90, seed=4, label='x'))
    assert draws != list(distinct_draws(space, 90, seed=3, label='y'))


def test_draws_do_not_change_between_releases():
    golden = json.loads((GOLDEN / 'draws.json').read_text())
    assert list(distinct_draws(1000, 4, seed=17, label='digit_0')) == golden['space_1000']
    assert list(distinct_draws(10**30, 2, seed=17, label='digit_0')) == golden['space_1e30']


CORPORA = {
    'addition': (solve_addition, ['digit_0', 'digit_1', 'digit_2'], 17),
    'lego': (solve_lego, [f'variable_{i}' for i in range(1, 6)], 32),
}


@pytest.mark.parametrize('name', CORPORA)
def test_generated_streams_are_right(tmp_path, skillit, name):
    from transformers import AutoTokenizer

    solve, skills, seq_len = CORPORA[name]
    skillit('convert', name, '--out', tmp_path / 'S', '--train-samples', 300, '--eval-samples', 50)
    assert left_in(tmp_path) == ['S']
    manifest = verify(str(tmp_path / 'S'))
    assert list(manifest.skills) == skills
    assert (manifest.seq_len, manifest.dtype) == (seq_len, 'uint16')
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / 'S' / 'tokenizer'))
    assert (tokenizer.pad_token, tokenizer.eos_token) == ('<pad>', '<eos>')
    assert len(tokenizer) == manifest.vocab_size
    make = sentences(name)
    for skill in skills:
        seen = set()
        for split, count in (('train', 300), ('eval', 50)):
            samples = read_split(tmp_path / 'S', skill, split)
            assert len(samples) == count
            assert manifest.skills[skill].splits[split].target_tokens == count
            seen |= {sample['tokens'].tobytes() for sample in samples}
            for sample in samples:
                [answer] = np.flatnonzero(sample['loss_mask'])
                words = tokenizer.convert_ids_to_tokens(sample['tokens'])
                assert tokenizer.unk_token not in words
                assert words[answer] == str(solve(make(words)))
        assert len(seen) == 350


def sentences(name):
    """Put the words of a sample back into the sentence it was made from, as far as its solver minds."""

    def addition_text(words):
        return ' '.join(words)

    def lego_text(words):
        text = ' '.join(words).replace(' . Output:', '. Output:')
        return re.sub(r' ,$', ', ', text)

    return {'addition': addition_text, 'lego': lego_text}[name]


def test_the_graph_lies_beside_the_manifest(tmp_path, skillit):
    few = ['--train-samples', 5, '--eval-samples', 5, '--overwrite', '--out', tmp_path / 'S']

    def graph(*arguments):
        skillit('convert', *arguments, *few)
        return json.loads((tmp_path / 'S' / 'graph.json').read_text())

    skills = ['digit_0', 'digit_1', 'digit_2']
    assert graph('addition') == {
        'version': 1,
        'train_skills': skills,
        'eval_skills': skills,
        'weights': [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
    }
    assert graph('addition', '--graph', 'chain')['weights'] == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert graph('addition', '--digits', 2)['weights'] == [[1, 1], [0, 1]]
    assert graph('lego')['weights'] == chain_graph(5)
    assert graph('lego', '--graph', 'published')['weights'][1] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['addition', '--digits', 0], '--digits must lie between 1 and 18, but got: 0'),
        (['addition', '--digits', 1], 'digit_0: 51000 samples asked for, but only 100 different ones exist'),
        (['lego', '--skills', 27], '--skills must lie between 1 and 26, but got: 27'),
        (
            ['lego', '--skills', 1],
            'variable_1: 51000 samples asked for, but only 52 different ones exist; lower',
        ),
        (['addition', '--eval-samples', 0], '--eval-samples must be at least 1, but got: 0'),
        (['lego', '--seed', -1], '--seed must be at least 0, but got: -1'),
        (
            ['lego', '--skills', 4, '--graph', 'published'],
            'exists for 5 skills, not for 4; choose --graph chain',
        ),
    ],
)
def test_corpora_that_cannot_be_are_refused(tmp_path, refused, arguments, message):
    assert message in refused('convert', *arguments, '--out', tmp_path / 'S')
    assert left_in(tmp_path) == []


def test_asking_for_more_than_there_is_says_so():
    with pytest.raises(
        InputError, match='x: 11 samples asked for, but only 10 different ones exist; lower --train'
    ):
        distinct_draws(10, 11, seed=0, label='x')


@pytest.mark.parametrize(('corpus', 'length'), [('addition', 64), ('lego', 128)])
def test_sentences_can_be_encoded_by_the_tokenizer_of_a_model(corpus, length, tokenizer, tmp_path):
    out = tmp_path / corpus
    counts = ['--train-samples', '20', '--eval-samples', '5']
    arguments = [corpus, '--out', str(out), '--tokenizer', tokenizer, '--seq-len', str(length), *counts]
    assert main(['convert', *arguments]) == 0
    samples = read_split(out, next(iter(Manifest.load(str(out)).skills)), 'train')
    assert len(samples) == 20
    loaded = AutoTokenizer.from_pretrained(out / 'tokenizer')
    for sample in samples:
        tokens, mask = sample['tokens'], sample['loss_mask'].astype(bool)
        assert tokens.shape == (length,)
        text = loaded.decode(tokens[tokens != loaded.eos_token_id])
        solved = solve_addition(text) if corpus == 'addition' else solve_lego(text)
        # The blank before it stands in every sentence, whatever the answer.
        assert loaded.decode(tokens[mask]) == str(solved)


def save_bpe(folder, *, before, merges):
    """A tokenizer of bytes with a few merges and words, as the tokenizers library has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    signs = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(''.join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, level])  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<eos>').save_pretrained(folder)
    return str(folder)


BLANK = '\u0120'  # of byte-level tokenizers


@pytest.fixture(scope='module')
def digits_apart(tmp_path_factory):
    """As SmolLM2's: each digit a token of its own, and the blank before it another one."""
    from tokenizers import pre_tokenizers

    # The digits' pre-tokenizer keeps these merges from happening.
    merges = [(BLANK, digit) for digit in '0123456789']
    before = [pre_tokenizers.Digits(individual_digits=True)]
    return save_bpe(tmp_path_factory.mktemp('apart') / 'T', before=before, merges=merges)


@pytest.fixture(scope='module')
def digits_with_blanks(tmp_path_factory):
    """As GPT-2's: a token for a blank and a digit."""
    merges = [(BLANK, digit) for digit in '0123456789']
    return save_bpe(tmp_path_factory.mktemp('joined') / 'T', before=[], merges=merges)


@pytest.fixture(scope='module')
def gpt2(shared_data):
    return str(shared_data / 'tokenizers' / 'gpt2')


@pytest.mark.parametrize('corpus', ['addition', 'lego'])
@pytest.mark.parametrize(
    ('made', 'blank'), [('digits_apart', ''), ('digits_with_blanks', ' '), ('gpt2', ' '), ('tokenizer', '')]
)
def test_one_token_an_answer_counts_that_in_which_another_answer_differs(
    corpus, made, blank, tmp_path, skillit, request
):
    folder = request.getfixturevalue(made)
    out = tmp_path / 'S'
    counts = ['--train-samples', 30, '--eval-samples', 20]
    skillit('convert', corpus, '--out', out, '--tokenizer', folder, '--seq-len', 128, *counts)
    manifest = verify(str(out))
    loaded = AutoTokenizer.from_pretrained(out / 'tokenizer')
    solve = CORPORA[corpus][0]
    for skill, one in manifest.skills.items():
        assert {name: split.target_tokens for name, split in one.splits.items()} == {'train': 30, 'eval': 20}
        for sample in read_split(out, skill, 'eval'):
            tokens, mask = sample['tokens'], sample['loss_mask'].astype(bool)
            text = loaded.decode(tokens[tokens != loaded.eos_token_id])
            assert loaded.decode(tokens[mask]) == f'{blank}{solve(text)}'
            # The sentence is encoded as a whole, as a model of that tokenizer reads it.
            whole = loaded.encode(text, add_special_tokens=False)
            assert tokens[: len(whole)].tolist() == whole


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('corpus', ['addition', 'lego'])
@pytest.mark.parametrize('made', ['digits_apart', None])
def test_training_on_sentences_leaves_the_evaluation_on_answers(
    corpus, made, workers, tmp_path, skillit, request
):
    options = ['--train-samples', 30, '--eval-samples', 20, '--workers', workers]
    if made:
        options += ['--tokenizer', request.getfixturevalue(made), '--seq-len', 128]
    skillit('convert', corpus, '--out', tmp_path / 'A', *options)
    skillit('convert', corpus, '--out', tmp_path / 'S', *options, '--train-on', 'sentence')
    manifest = verify(str(tmp_path / 'S'))
    assert manifest.corpus['train_on'] == 'sentence'
    assert 'train_on' not in verify(str(tmp_path / 'A')).corpus
    padding = AutoTokenizer.from_pretrained(tmp_path / 'S' / 'tokenizer').pad_token_id
    padding = manifest.vocab_size - 1 if padding is None else padding
    for skill in manifest.skills:
        answers, sentences = (read_split(tmp_path / name, skill, 'train') for name in 'AS')
        for answer, sentence in zip(answers, sentences, strict=True):
            assert (answer['tokens'] == sentence['tokens']).all()
            assert (sentence['loss_mask'] == (sentence['tokens'] != padding)).all()
            assert int(answer['loss_mask'].sum()) == 1
        for split in ('index.json', 'shard.00000.mds'):
            found = [(tmp_path / name / skill / 'eval' / split).read_bytes() for name in 'AS']
            assert found[0] == found[1]


def test_a_tokenizer_that_writes_answers_in_unequal_numbers_of_tokens_is_refused(tmp_path, refused):
    uneven = save_bpe(tmp_path / 'uneven', before=[], merges=[(BLANK, '1'), (BLANK, '2')])
    command = ['convert', 'addition', '--out', tmp_path / 'S', '--tokenizer', uneven, '--seq-len', 128]
    error = refused(*command, '--train-samples', 200, '--eval-samples', 10)
    assert '--tokenizer uneven: must write an answer in one token' in error
    assert 'leave it out' in error
    assert left_in(tmp_path) == ['uneven']


def test_a_tokenizer_that_does_not_tell_answers_apart_is_refused(tmp_path, refused):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({'<unk>': 0, '<eos>': 1, 'Input': 2}, unk_token='<unk>'))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    folder = tmp_path / 'blind'
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<eos>').save_pretrained(folder)
    command = ['convert', 'lego', '--out', tmp_path / 'S', '--tokenizer', folder, '--seq-len', 128]
    assert '--tokenizer blind: must write an answer in one token' in refused(*command)


def test_a_sentence_longer_than_a_sample_is_refused(tokenizer, tmp_path, refused):
    error = refused(
        'convert', 'addition', '--out', tmp_path / 'a', '--tokenizer', tokenizer, '--seq-len', '20'
    )
    assert '--seq-len must hold a sentence, but got: 20' in error
    assert not (tmp_path / 'a').exists()


def test_a_process_that_forks_afterwards_is_not_talked_to_by_the_tokenizers(tmp_path):
    code = (
        'import os, sys\nfrom skillit_stream.cli import main\n'
        "main(['convert', 'addition', '--train-samples', '40', '--eval-samples', '10', '--out', sys.argv[1]])\n"
        'child = os.fork()\n'
        'os._exit(0) if child == 0 else os.waitpid(child, 0)\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'streams')]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'tokenizers' not in done.stderr
