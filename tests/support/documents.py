"""The documents' own commands: collected from README.md and docs/, made small, run one after another."""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from skillit_stream.cli import main
from skillit_stream.experiments import running
from tests.support.jobs import free_port
from tests.support.launching import RankServer, forking_subprocess
from tests.support.paths import ROOT, SUPPORT

CLI, SCRIPT = ROOT / 'skillit_stream' / 'cli.py', SUPPORT / 'script.py'
# Pages in the order in which they are read; one may go on with what those before it have made.
PAGES = ('README.md', *(f'docs/{name}.md' for name in (
    'your-own-data', 'mixtures', 'convert', 'train', 'graphs', 'forks', 'report', 'apply', 'experiments', 'python',
    'any-trainer', 'extending', 'multi-node', 'llm-foundry', 'index', 'install',
)))  # fmt: skip
# What cannot be run here -> why.
NOT_RUN = {
    r'^make ': 'installs 6 GB; what it runs is a command of its own, with a test of its own',
    r'^(uv )?pip install': 'installs',
    r'^mkdocs build': 'has a test of its own',
    r'--world_size': 'needs two machines',
    r'^composer -n 8 ': 'needs eight GPUs',
    r'^skillit apply ': 'needs a run that is under way; tests/steering and tests/training have one',
    r's3://': 'needs an object store of that name; tests/convert and tests/training use one',
    r'RedPajama-1T': 'needs RedPajama',
    r'convert hf ': 'needs the hub',
    r'^skillit experiment addition-cpu': 'takes 20 minutes; tests/experiments checks its YAML',
}
SAVED = re.compile(r'Save this\s+as\s+`([^`]+)`')

MODEL = {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1}
MODEL |= {'num_attention_heads': 2, 'num_key_value_heads': 2}
SIZES = {
    'train_loader.round_size': 32,
    'train_loader.num_workers': 0,
    'eval_loader.samples_per_skill': 16,
    'global_train_batch_size': 16,
    'device': 'cpu',
    'progress_bar': 'false',
    **{f'model.config.{name}': value for name, value in MODEL.items()},
}
# Sizes in the documents' commands -> those of runs as small as here.
SIZES_IN_COMMANDS = {
    'ep2-ba120': 'ep2-ba4',
    '--steps 60': '--steps 6',
    '--steps 20': '--steps 2',
    '--repeats 3': '--repeats 2',
    '--tokens 1e11': '--tokens 4e4',
    ' 10ep': ' 1ep',
    'convert addition ': 'convert addition --train-samples 3200 --eval-samples 60 ',
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    kind: str
    text: str
    saved_as: str | None
    """The file that the sentence before it says to save it as."""

    @property
    def commands(self) -> list[str]:
        """The lines of a block of shell, those that go on in the next line joined."""
        return self.text.replace('\\\n', ' ').splitlines()


def write_byte_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    alphabet = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<|end|>').save_pretrained(str(folder))


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding='utf-8')
    end = 0
    for match in re.finditer(r'^```(\w*)\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
        before = text[end : match.start()].rsplit('\n\n', 2)
        named = SAVED.findall(' '.join(before[-2:]))
        yield Block(page, match[1], match[2], named[-1] if named else None)
        end = match.end()


def reason_not_to_run(command: str) -> str | None:
    """Why a command is not run here; None: it is."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


def words_of(command: str, folder: Path) -> list[str]:
    """What the shell makes of a command."""
    program = shlex.split(command)[0]
    shell = f'{program}() {{ printf "%s\\0" {program} "$@"; }}; '
    ran = subprocess.run(
        ['bash', '-c', shell + command], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    words = ran.stdout.split('\0')
    assert words.pop() == '', command
    return words


def smaller(words: list[str]) -> list[str]:
    """A command of `skillit` (without that word), for a run of seconds; what it says itself stands."""
    place = next((n for n, word in enumerate(words) if word.endswith('.yaml') and '=' not in word), None)
    if words[0] in ('mix', 'convert') or place is None:
        return words
    if words[0] == 'experiment':
        runs = {**SIZES, 'max_duration': '3ep'}
        return [
            *words,
            'seeds=[1]',
            f'overrides=[{",".join(f"{key}={value}" for key, value in runs.items())}]',
        ]
    sizes = {**SIZES, 'max_duration': '3ep'}
    if words[0] in ('train', 'score') and 'autoresume=true' not in words:
        sizes['save_overwrite'] = 'true'  # an earlier page may have trained a run of that name
    if Path(words[place]).stem in ('mine', 'small'):
        sizes['scheduler.t_warmup'] = '1ba'
    return [*words[: place + 1], *(f'{key}={value}' for key, value in sizes.items()), *words[place + 1 :]]


class Desk:
    """A folder in which pages are read and what they say is done.

    Args:
        folder: Where.
        server: Forks processes that need not import everything again.
    """

    def __init__(self, folder: Path, server: RankServer) -> None:
        self.folder, self._server = folder, server
        self.output = folder / 'output.txt'
        self.printed: dict[str, str] = {}

    def read(self, page: str) -> str:
        """Do all that a page says, unless it is done; returns what it printed."""
        if page in self.printed:
            return self.printed[page]
        self.printed[page] = 'it was begun, and ended in an error'
        self.output.write_text('')
        for number, block in enumerate(blocks(page)):
            if block.saved_as:
                (self.folder / block.saved_as).write_text(block.text)
            elif block.kind == 'python':
                script = self.folder / f'{Path(page).stem}-{number}.py'
                script.write_text(block.text)
                self._finish([str(script)], page, script=SCRIPT)
            elif block.kind == 'sh':
                for command in filter(lambda line: reason_not_to_run(line) is None, block.commands):
                    self._run(command)
        self.printed[page] = self.output.read_text()
        return self.printed[page]

    def _run(self, command: str) -> None:
        for whole, small in SIZES_IN_COMMANDS.items():
            command = command.replace(whole, small)
        program, *words = words_of(command, self.folder)
        if program == 'composer':  # its ranks, without the launcher
            _, ranks, *words = words
            if words[:2] == ['-m', 'skillit_stream.train']:
                self._finish(smaller(['train', *words[2:]]), command, ranks=int(ranks))
            else:
                self._finish(words, command, script=SCRIPT, ranks=int(ranks))
        elif program == 'python':
            self._finish(words, command, script=SCRIPT)
        elif words[0] == 'experiment':
            self._experiment(smaller(words), command)
        else:
            assert program == 'skillit', command
            if words[0] in ('convert', 'tokenizer') and not {'--task', '--add'} & set(words):
                shutil.rmtree(self.folder / words[words.index('--out') + 1], ignore_errors=True)
            self._finish(smaller(words), command)

    def _finish(self, words: list[str], command: str, *, script: Path = CLI, ranks: int = 1) -> None:
        """Run the ranks of a command, which must all end well."""
        world = {'WORLD_SIZE': ranks, 'LOCAL_WORLD_SIZE': ranks, 'NODE_RANK': 0, 'MASTER_ADDR': '127.0.0.1'}
        world |= {'MASTER_PORT': free_port()}
        printed = len(self.output.read_text())
        request = {'arguments': words, 'script': str(script), 'folder': str(self.folder)}
        request['output'] = str(self.output)
        started = []
        for rank in range(ranks):
            own = {**world, 'RANK': rank, 'LOCAL_RANK': rank} if ranks > 1 else {}
            environment = {name: str(value) for name, value in own.items()}
            started.append(self._server.ask(environment=environment, **request))
        codes = [self._exit_code(process) for process in started]
        assert not any(codes), f'{command}\n{self.output.read_text()[printed:][-3000:]}'

    def _exit_code(self, process: int) -> int:
        while (code := self._server.ask(ended=process)) is None:
            time.sleep(0.02)
        return code

    def _experiment(self, words: list[str], command: str) -> None:
        """In this process: its runs are forked, and it makes no dataset itself."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, 'subprocess', forking_subprocess(self._server))
            patch.chdir(self.folder)
            assert main(words) == 0, command
