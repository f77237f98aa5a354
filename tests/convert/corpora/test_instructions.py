"""Natural Instructions and Alpaca: prompts and answers, skills, and which instances are for eval."""

import csv
import json
import os
import pickle
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpora import alpaca, natural_instructions
from skillit_stream.convert.dev_split import read_dev_split
from skillit_stream.convert.inputs import choosing_files
from skillit_stream.convert.verify import verify
from tests.support.corpora_reading import make_corpus, read_corpus
from tests.support.run_folders import rounds_of

TINY_MODEL = {'model_type': 'llama', 'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1}
TINY_MODEL |= {'num_attention_heads': 2, 'num_key_value_heads': 2, 'max_position_embeddings': 64}


def task(category: str, count: int, *, language: str = 'English', **changes: object) -> dict:
    return {
        'Contributors': ['A'],
        'Categories': [category, 'Another Category'],
        'Definition': ['Say what comes next. '],
        'Input_language': ['English'],
        'Output_language': [language],
        'Positive Examples': [],
        'Instances': [
            {'id': f'i{i}', 'input': f'question {i}', 'output': [f'answer {i}', 'or so']}
            for i in range(count)
        ],
        **changes,
    }


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the data set in miniature."""
    tasks = {
        'task1_a': task('Question Answering', 10),
        'task2_b': task('Question Answering', 300, language='Spanish'),
        'task3_c': task('Text to Code', 7),
        'task4_d': task('Title Generation', 120),
    }
    for name, content in tasks.items():
        path = tmp_path / 'tasks' / f'{name}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=4))
    for name, names in {
        'default/train': ['task1_a', 'task3_c'],
        'default/test': ['task4_d'],
        'xlingual/train': ['task1_a', 'task2_b'],
        'xlingual/test': ['task2_b'],
    }.items():
        path = tmp_path / 'splits' / f'{name}_tasks.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names) + '\n')
    (tmp_path / 'three.txt').write_text('task1_a\ntask2_b\ntask3_c\n')
    return tmp_path


def counts(*arguments: object) -> dict[tuple[str, str | None], int]:
    found = read_corpus(natural_instructions, *arguments)
    assert found.faults == []
    return dict(Counter((document.skill, document.split) for document in found.documents))


def test_instances_become_prompts_and_answers(clone):
    found = read_corpus(natural_instructions, clone / 'tasks' / 'task3_c.json')
    assert [(d.skill, d.split, d.answer) for d in found.documents] == [
        ('text_to_code', 'eval' if i < 3 else 'train', f'answer {i}') for i in range(7)
    ]
    assert found.texts[0] == 'Say what comes next.\n\nInput: question 0\nOutput: '
    bare = read_corpus(natural_instructions, clone / 'tasks' / 'task3_c.json', '--prompt', 'instance')
    assert bare.texts[0] == 'Input: question 0\nOutput: '


def test_the_dev_split_is_the_first_hundred_or_half_of_a_task(clone):
    assert counts(clone) == {
        ('question_answering', 'eval'): 5 + 100,
        ('question_answering', 'train'): 5 + 200,
        ('text_to_code', 'eval'): 3,
        ('text_to_code', 'train'): 4,
        ('title_generation', 'eval'): 60,
        ('title_generation', 'train'): 60,
    }
    assert counts(clone, '--dev-instances', 2, '--max-instances', 3, '--skills', 'text_to_code') == {
        ('text_to_code', 'eval'): 2,
        ('text_to_code', 'train'): 3,
    }


def test_small_tasks_are_left_out_of_training(clone):
    # Of the test split none is, as in the published code: its tasks are not trained on.
    assert set(counts(clone, '--split', 'train+test', '--min-instances', 121)) == {
        ('title_generation', 'eval')
    }
    assert {skill for skill, _ in counts(clone, '--min-instances', 10)} == {
        'question_answering',
        'title_generation',
    }
    assert counts(clone, '--min-instances', 120)[('question_answering', 'train')] == 200
    assert make_corpus(natural_instructions, clone, '--min-instances', 9).options()['min_instances'] == 9
    corpus = make_corpus(natural_instructions, clone, '--min-instances', 8)
    with choosing_files(Namespace()) as choice:
        assert len(corpus.inputs()) == 3
    assert choice.in_words(3) == '3 files read, 1 passed over (1 of fewer than 8 instances)'


def test_a_skill_whose_tasks_are_all_too_small_is_refused(clone):
    chosen = ['--skills', 'text_to_code,question_answering', '--min-instances', 8]
    with pytest.raises(InputError, match='--min-instances 8: leaves out all tasks of text_to_code; lower it'):
        make_corpus(natural_instructions, clone, *chosen).inputs()


def test_a_category_keeps_the_dot_of_its_published_name(clone):
    (clone / 'tasks' / 'task3_c.json').write_text(json.dumps(task('Misc.', 7)))
    assert counts(clone, '--skills', 'misc.') == {('misc.', 'eval'): 3, ('misc.', 'train'): 4}


def test_a_train_stream_for_each_task_beside_the_eval_streams_of_the_skills(clone):
    assert counts(clone, '--stream-per', 'task', '--split', 'xlingual') == {
        ('question_answering', 'eval'): 5 + 100,
        ('question_answering--task1_a', 'train'): 5,
        ('question_answering--task2_b', 'train'): 200,
    }
    assert set(counts(clone, '--stream-per', 'task', '--split', 'test')) == {('title_generation', 'eval')}
    assert make_corpus(natural_instructions, clone, '--stream-per', 'task').options()['stream_per'] == 'task'
    assert 'stream_per' not in make_corpus(natural_instructions, clone).options()


def test_tasks_are_drawn_uniformly_within_a_skill(clone, tokenizer, tmp_path, skillit):
    """Of tasks of 5, 200 and 4 instances to train on, each skill's are drawn as often as each other."""
    out = tmp_path / 'S'
    options = ['--tokenizer', tokenizer, '--seq-len', 64, '--stream-per', 'task', '--max-instances', 40]
    skillit(
        'convert', 'natural-instructions', clone, '--task-list', clone / 'three.txt', *options, '--out', out
    )
    verify(str(out))
    run = {
        'streams': str(out),
        'run_name': 'tasks',
        'save_folder': str(tmp_path / 'run'),
        'max_duration': '2ep',
        'device': 'cpu',
        'global_train_batch_size': 4,
        'model': {'config': TINY_MODEL, 'init': 'fan_in'},
        'train_loader': {'round_size': 24},
        'optimizer': {'name': 'adamw', 'lr': 0.01},
        'algorithms': {
            'data_mixing': {'policy': 'skill_it', 'graph': 'identity', 'groups': '--', 'eta': 0, 'window': 1}
        },
        'progress_bar': False,
    }
    path = tmp_path / 'run.yaml'
    path.write_text(json.dumps(run))
    skillit('train', path)
    for line in rounds_of(tmp_path / 'run'):
        assert line['samples'] == {
            'question_answering--task1_a': 6,
            'question_answering--task2_b': 6,
            'text_to_code--task3_c': 12,
        }


def test_skills_by_category_and_languages(clone):
    slicer = ['--slicer', 'task_category', 'input_language', 'output_language']
    skills = {skill for skill, _ in counts(clone, *slicer)}
    assert skills == {
        'question_answering-english-english',
        'question_answering-english-spanish',
        'text_to_code-english-english',
        'title_generation-english-english',
    }
    assert make_corpus(natural_instructions, clone, *slicer).options()['slicer'] == slicer[1:]


def test_the_splits_of_the_clone(clone):
    assert {skill for skill, _ in counts(clone, '--split', 'train')} == {'question_answering', 'text_to_code'}
    # Test tasks are for eval only; the instances beyond the hundred (here: half) are nobody's.
    assert counts(clone, '--split', 'test') == {('title_generation', 'eval'): 60}
    assert counts(clone, '--split', 'train+test') == {
        ('question_answering', 'eval'): 5,
        ('question_answering', 'train'): 5,
        ('text_to_code', 'eval'): 3,
        ('text_to_code', 'train'): 4,
        ('title_generation', 'eval'): 60,
    }
    assert counts(clone, '--split', 'xlingual')[('question_answering', 'train')] == 5 + 200
    assert counts(clone, '--split', 'xlingual-test') == {('question_answering', 'eval'): 100}
    (clone / 'mine.txt').write_text('task3_c\n')
    assert counts(clone, '--task-list', clone / 'mine.txt') == {
        ('text_to_code', 'eval'): 3,
        ('text_to_code', 'train'): 4,
    }


@pytest.mark.parametrize('form', ['json', 'pkl of lists', 'pkl of arrays', 'pkl of numbers', 'pkl of sets'])
def test_the_dev_split_of_a_file(clone, form):
    listed: dict[str, object] = {'task3_c': [6, 0], 'task1_a': [1]}
    path = clone / f'dev.{form[:4].strip()}'
    if form == 'json':
        path.write_text(json.dumps(listed))
    else:
        make = {'lists': list, 'arrays': np.array, 'numbers': lambda v: list(np.array(v)), 'sets': set}
        path.write_bytes(pickle.dumps({name: make[form.split()[-1]](v) for name, v in listed.items()}))
    found = read_corpus(natural_instructions, clone, '--split', 'train', '--dev-split', path)
    eval_answers = [document.answer for document in found.documents if document.split == 'eval']
    assert eval_answers == ['answer 1', 'answer 0', 'answer 6']
    assert len(found.documents) == 17
    found = read_corpus(natural_instructions, clone, '--dev-split', path)
    assert found.reasons == ['no_dev_split'] * 2
    assert 'task2_b.json: the --dev-split file does not list the task task2_b' in str(found.faults[0])


def test_several_files_list_the_dev_split_of_several_kinds_of_tasks(clone):
    one, other, third = (clone / f'{name}.json' for name in ('one', 'other', 'third'))
    one.write_text('{"task3_c": [6, 0], "task1_a": [1]}')
    other.write_text('{"task4_d": [2, 4, 8], "task1_a": [1]}')
    third.write_text('{"task1_a": [2]}')
    options = ['--split', 'train+test', '--dev-split', one, other]
    assert counts(clone, *options)[('title_generation', 'eval')] == 3
    assert counts(clone, *options)[('text_to_code', 'eval')] == 2
    with pytest.raises(InputError, match=r'--dev-split .*third.json: lists other instances of task1_a than'):
        make_corpus(natural_instructions, clone, '--dev-split', one, third)
    # What is read decides on the parts of the work, in the order of the files or not.
    hashes = {
        make_corpus(natural_instructions, clone, '--dev-split', *files).options()['dev']
        for files in ([one], [other], [one, other])
    }
    assert len(hashes) == 3


class Malicious:
    def __reduce__(self):
        return os.system, ('true',)


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (pickle.dumps({'a': Malicious()}), 'posix.system is not allowed here'),
        (pickle.dumps([1]), 'must map task names to indices'),
        (pickle.dumps({'a': ['x']}), 'must map task names to indices'),
        (b'nonsense', 'must map task names to indices'),
    ],
)
def test_a_pickle_that_is_no_dev_split_is_refused(tmp_path, data, message):
    path = tmp_path / 'dev.pkl'
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf'--dev-split .*{message}'):
        read_dev_split([str(path)])


def test_an_instance_that_is_not_there_is_a_fault(clone):
    (clone / 'dev.json').write_text('{"task3_c": [7]}')
    found = read_corpus(
        natural_instructions, clone / 'tasks' / 'task3_c.json', '--dev-split', clone / 'dev.json'
    )
    assert 'lists instance 7, but the task has 7; take the right file' in str(found.faults[0])


BROKEN = {
    'broken_json': (b'{"Categories": [', r'task3_c\.json:1: broken JSON'),
    'not_an_object': (b'[1]', r'task3_c\.json: a row must be one JSON object, but got: list'),
    'no categories': (task('', 1, Categories=[]), "a task without a proper 'Categories'; check that it"),
    'no instances': (task('A', 1, Instances={}), "a task without a proper 'Instances'"),
    'no definition': (task('A', 1, Definition=None), "a task without a proper 'Definition'"),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_task_is_one_fault(clone, case):
    content, message = BROKEN[case]
    path = clone / 'tasks' / 'task3_c.json'
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    found = read_corpus(natural_instructions, path)
    assert found.documents == []
    [fault] = found.faults
    with pytest.raises(InputError, match=message):
        raise fault


def test_broken_instances_are_faults_of_their_skill(clone):
    instances = [
        {'input': 'a', 'output': ['', 'b']},
        {'input': 'a', 'output': []},
        {'input': 7, 'output': ['b']},
        'nothing',
        {'input': 'a', 'output': 'b'},
    ]
    path = clone / 'tasks' / 'task3_c.json'
    path.write_text(json.dumps(task('A B', 0, Instances=instances)))
    found = read_corpus(natural_instructions, path)
    assert [document.answer for document in found.documents] == ['b', 'b']
    assert [(fault.reason, fault.skill) for fault in found.faults] == [
        ('empty_text', 'a_b'),
        ('mistyped_text', 'a_b'),
        ('not_an_object', 'a_b'),
    ]
    assert f'{path}: instance 2: ' in str(found.faults[1])


def test_a_fault_in_a_task_stays_one_where_skills_are_chosen(clone):
    (clone / 'tasks' / 'task3_c.json').write_bytes(b'{')
    found = read_corpus(natural_instructions, clone, '--skills', 'title_generation')
    assert found.reasons == ['broken_json']
    assert set(found.skills) == {'title_generation'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--skills', 'question_answering,qa'], r'--skills: 1 of 2 not in .* \(qa\); check the names'),
        (['--task-list', 'nowhere.txt'], r'--task-list: nowhere.txt cannot be read \(No such file'),
        (['--split', 'train', '--task-list', 'x'], '--task-list: has no meaning with --split'),
        (['--min-instances', 0], '--min-instances must be at least 1, but got: 0'),
        (['--dev-instances', 0], '--dev-instances must be at least 1, but got: 0'),
        (['--dev-instances', 5, '--dev-split', 'x'], '--dev-instances: has no meaning with --dev-split'),
    ],
)
def test_options_that_cannot_be_are_refused(clone, arguments, message):
    with pytest.raises(InputError, match=message):
        make_corpus(natural_instructions, clone, *arguments).inputs()


def test_a_task_of_the_split_that_is_missing_is_refused(clone):
    (clone / 'tasks' / 'task3_c.json').unlink()
    with pytest.raises(InputError, match=r'tasks of the list: 1 of 2 not in .* \(task3_c\)'):
        make_corpus(natural_instructions, clone, '--split', 'train').inputs()


def test_natural_instructions_tasks_as_many_as_the_inventory_says(natural_instructions_tasks, shared_data):
    with open(natural_instructions_tasks / 'inventory.csv', newline='') as file:
        inventory = list(csv.DictReader(file))
    published = shared_data / 'skill_it' / 'top_23.txt'
    found = read_corpus(natural_instructions, natural_instructions_tasks, '--skills', published)
    # Two instances have an empty output and nothing else.
    assert found.reasons == ['empty_text'] * 2
    assert 'task044_essential_terms_identifying_essential_words.json: instance 994' in str(found.faults[0])
    assert 'task1564_triviaqa_answer_generation.json: instance 86' in str(found.faults[1])
    expected: Counter[str] = Counter()
    for row in inventory:
        expected[row['category']] += int(row['n_instances'])
    expected -= Counter(question_understanding=1, question_answering=1)
    assert Counter(found.skills) == expected
    assert set(expected) == set(published.read_text().split())
    dev = sum(min(100, int(row['n_instances']) // 2) for row in inventory)
    assert sum(document.split == 'eval' for document in found.documents) == dev


INSTRUCTIONS = ['Write a poem.', 'Please write, in verse, a letter.', 'Name a fruit.', '1 + 1?']


def alpaca_rows(path: Path, **changes: object) -> Path:
    rows = [
        {'instruction': text, 'input': '', 'output': 'x', 'kind': len(text), **changes}
        for text in INSTRUCTIONS
    ]
    path.write_text(json.dumps(rows) if path.suffix == '.json' else '\n'.join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize('name', ['a.json', 'a.jsonl'])
def test_alpaca_skills_by_verb_or_field(tmp_path, name):
    path = alpaca_rows(tmp_path / name)
    found = read_corpus(alpaca, path, '--skill-from', 'verb', '--min-rows', 1)
    assert found.skills == ['write', 'write', 'name', 'other']
    found = read_corpus(alpaca, path, '--skill-from', 'verb', '--min-rows', 2)
    assert found.skills == ['write', 'write', 'other', 'other']
    found = read_corpus(alpaca, path, '--skill-field', 'kind')
    assert found.skills == [str(len(text)) for text in INSTRUCTIONS]


@pytest.mark.parametrize(
    ('instruction', 'verb'),
    [
        ('Could you please Summarize this?', 'summarize'),
        ('"Translate" the line', 'translate'),
        ('Re-write {this}', 're-write'),
        ('Écris un poème', 'écris'),
        ('please', None),
        ('3 > 2', None),
    ],
)
def test_the_verb_of_an_instruction(instruction, verb):
    assert alpaca.verb_of(instruction) == verb


def test_alpaca_prompts_are_the_published_ones(tmp_path):
    path = alpaca_rows(tmp_path / 'a.json', instruction='Do {it}.', input='{x}')
    rows = read_corpus(alpaca, path, '--skill-field', 'kind').documents
    assert rows[0].text == (
        'Below is an instruction that describes a task, paired with an input that provides further context. '
        'Write a response that appropriately completes the request.\n\n'
        '### Instruction:\nDo {it}.\n\n### Input:\n{x}\n\n### Response:\n'
    )
    assert (rows[0].answer, rows[0].split) == ('x', None)
    path = alpaca_rows(tmp_path / 'b.json', instruction='Do it.')
    assert read_corpus(alpaca, path, '--skill-field', 'kind').texts[0] == (
        'Below is an instruction that describes a task. Write a response that appropriately completes the '
        'request.\n\n### Instruction:\nDo it.\n\n### Response:\n'
    )
    plain = read_corpus(alpaca, tmp_path, '--skill-field', 'kind', '--template', 'plain').texts
    assert (plain[0], plain[4]) == ('Do {it}.\n{x}\n', 'Do it.\n')


def test_bad_alpaca_rows_are_faults_in_their_place(tmp_path):
    rows = [
        {'instruction': 'Name a fruit.', 'output': 'apple', 'k': 'a'},
        {'instruction': 'Name a fruit.', 'output': '', 'k': 'a'},
        {'instruction': 'Name a fruit.', 'input': 7, 'output': 'apple', 'k': 'b'},
        {'output': 'apple', 'k': 'b'},
        {'instruction': 'Name a fruit.', 'output': 'apple'},
        7,
    ]
    (tmp_path / 'a.json').write_text(json.dumps(rows))
    found = read_corpus(alpaca, tmp_path, '--skill-field', 'k')
    assert found.skills == ['a']
    assert [(fault.reason, fault.skill) for fault in found.faults] == [
        ('empty_text', 'a'),
        ('mistyped_text', 'b'),
        ('missing_text', 'b'),
        ('missing_skill', None),
        ('not_an_object', None),
    ]
    assert f'{tmp_path}/a.json: row 3: ' in str(found.faults[1])
    assert 'write rows of instruction, input and output' in str(found.faults[2])


def test_genuine_alpaca_rows(shared_data):
    path = shared_data / 'alpaca' / 'alpaca_2000.json'
    if not path.exists():
        pytest.skip('needs the genuine rows of alpaca_2000.json')
    rows = json.loads(path.read_text())
    found = read_corpus(alpaca, path, '--skill-from', 'verb', '--template', 'plain')
    assert [document.answer for document in found.documents] == [
        row['output'] for row in rows if row['output']
    ]
    assert len(found.faults) == sum(not row['output'] for row in rows)
    first = Counter(row['instruction'].split()[0].lower() for row in rows)
    skills = Counter(found.skills)
    assert {skill for skill in ('generate', 'create', 'write', 'describe') if skills[skill] >= first[skill]}
    assert min(skills.values()) >= 20
    assert sum(skills.values()) == len(found.documents)
