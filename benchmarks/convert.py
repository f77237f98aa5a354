"""Text in, packed MDS streams out: megabytes of text a second, and where the time goes.

    python benchmarks/convert.py --tokenizer NAME_OR_FOLDER [--corpus FOLDER ...] [--mb 600] [--out benchmarks/results]
    python benchmarks/convert.py ... --before CHECKOUT [--skills 1 300 3000]

Converts .jsonl.zst files, one skill a file, with one process and with one a core, and beside it by the shape of
llm-foundry's converter (its `convert_dataset_json.py` with `--concat_tokens`, written anew here): one process, one
document at a time through the tokenizer's call, EOS between, int32 tokens through MDSWriter.
The corpus is that of `--corpus` (folders of .jsonl.zst), or is made from the Python sources that are installed;
it is repeated under other names until it holds `--mb` of text. The peer and the slower encoder get a part of
it, for they would take minutes. Times are of whole commands, start of Python included; what a command takes for an
empty corpus is in the column `start s`. `CPU s` is the processor time of all processes.

With `--before` another release, a checkout of it, is measured in turn with this one, and the peers are left out: with
parts of 8 MB and with those that the command chooses itself; with `--skills` with one process on the same text dealt
to so many skills, for what memory grows with.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from reporting import publish

SEQ_LEN = 2048
ROOT = Path(__file__).resolve().parents[1]
# The smallest of the parts that a corpus is cut into, so that all processes have some.
PARTS = '8mb'
LOOK_SECONDS = 0.1
# Characters of a document when text is dealt to skills.
PIECE = 4000
FILE_BYTES = 10 << 20


def make_corpus(sources: list[str], folder: Path, megabytes: float) -> None:
    """Files of about 10 MB of text, until there is enough."""
    folder.mkdir(parents=True)
    files = [path for source in sources for path in sorted(Path(source).glob('*.jsonl.zst'))]
    files = files or list(write_python_sources(folder / '.source'))
    total = copy = 0
    while total < megabytes * 1e6:
        for path in files:
            shutil.copyfile(path, folder / f'{path.name.removesuffix(".jsonl.zst")}.{copy:03}.jsonl.zst')
            total += text_bytes(path)
        copy += 1
    shutil.rmtree(folder / '.source', ignore_errors=True)


def write_python_sources(folder: Path) -> Iterator[Path]:
    """The installed Python sources, a document a file, in files of about 10 MB."""
    folder.mkdir()
    rows: list[bytes] = []
    size = 0
    for number, path in enumerate(sorted(Path(sysconfig.get_paths()['purelib']).rglob('*.py'))):
        text = path.read_text(encoding='utf-8', errors='ignore')
        if text:
            rows.append(json.dumps({'text': text}).encode() + b'\n')
            size += len(text)
        if size >= FILE_BYTES:
            yield save(folder / f'python{number}.jsonl.zst', rows)
            rows, size = [], 0


def save(path: Path, rows: list[bytes]) -> Path:
    """Write rows as one archive."""
    path.write_bytes(zstandard.compress(b''.join(rows)))
    return path


def text_bytes(path: Path) -> int:
    """UTF-8 bytes of the texts of a file."""
    return sum(len(row['text'].encode()) for row in read_rows(path))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl.zst."""
    with zstandard.open(path, 'rt', encoding='utf-8') as file:
        for line in file:
            yield json.loads(line)


def ours(
    corpus: Path, out: Path, tokenizer: str, *, workers: int, encoder: str, parts: str
) -> dict[str, float]:
    """`skillit convert jsonl` on a corpus, in parts of a size or of its own choice; seconds by stage."""
    import skillit_stream.convert.corpora.jsonl as module
    from skillit_stream.convert.pipeline import convert

    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = ['--skill-field', 'skill'] if corpus.name.startswith('skills') else ['--skill-from', 'folder']
    options += ['--out', str(out), '--tokenizer', tokenizer, '--encoder', encoder]
    options += [*(['--part-size', parts] if parts else []), '--min-samples', '1']
    options += ['--seq-len', str(SEQ_LEN), '--workers', str(workers), str(corpus)]
    return dict(convert(module.__name__, parser.parse_args(options)).seconds)


def llm_foundry_shape(corpus: Path, out: Path, tokenizer: str) -> dict[str, float]:
    """One document at a time through the tokenizer's call, int32 samples."""
    import numpy as np
    from streaming import MDSWriter
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(tokenizer)
    eos = encode('<|endoftext|>', add_special_tokens=False)['input_ids']
    waiting: list[int] = []
    with MDSWriter(out=str(out), columns={'tokens': 'ndarray:int32'}) as writer:
        for path in sorted(corpus.glob('*.zst')):
            for row in read_rows(path):
                encoded = encode(row['text'], truncation=False, padding=False)
                waiting += encoded['input_ids'] + eos
                while len(waiting) >= SEQ_LEN:
                    writer.write({'tokens': np.asarray(waiting[:SEQ_LEN], dtype=np.int32)})
                    waiting = waiting[SEQ_LEN:]
    return {}


def measure(
    corpus: Path,
    tokenizer: str,
    kind: str,
    workers: int,
    encoder: str = 'auto',
    *,
    parts: str = PARTS,
    code: str = str(ROOT),
) -> dict[str, Any]:
    """One conversion in a process of its own: seconds, of its processors too, peak memory, seconds by stage."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        arguments = [kind, str(corpus), f'{folder}/out', tokenizer, str(workers), encoder, parts]
        command = [sys.executable, __file__, '--one', *arguments]
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, 'PYTHONPATH': code},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        looks = watch(process)
        output, errors = process.communicate()
        seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f'{kind} failed:\n{errors}')
    answer = json.loads(output.strip().splitlines()[-1])
    cpu, peak = (sum(one[0] for one in looks.values()), max(one[1] for one in looks.values()))
    return {'seconds': seconds, 'cpu': cpu, 'peak_mb': peak, **answer}


def watch(process: subprocess.Popen[str]) -> dict[int, tuple[float, float]]:
    """Look at all processes of a session until its first one ends: CPU seconds and peak memory in MB of each."""
    looks: dict[int, tuple[float, float]] = {}
    ticks = os.sysconf('SC_CLK_TCK')
    while process.poll() is None:
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                found = (folder / 'stat').read_text().rpartition(')')[2].split()
                if int(found[3]) != process.pid:
                    continue
                status = (folder / 'status').read_text().splitlines()
            except (OSError, ValueError):  # it has just ended
                continue
            peak = next((int(line.split()[1]) / 1024 for line in status if line.startswith('VmHWM')), 0.0)
            cpu = (int(found[11]) + int(found[12])) / ticks
            # One that has ended, but was not waited for, has no memory any more.
            looks[int(folder.name)] = (cpu, max(peak, looks.get(int(folder.name), (0.0, 0.0))[1]))
        time.sleep(LOOK_SECONDS)
    return looks


def row_of(
    name: str, corpus: Path, args: argparse.Namespace, start: dict[str, Any], *how: Any, **more: str
) -> dict[str, Any]:
    """A line of the table."""
    size = sum(map(text_bytes, sorted(corpus.glob('*.zst')))) / 1e6
    found = measure(corpus, args.tokenizer, *how, **more)
    stages = found['stages']
    total = sum(stages.values())
    return {
        'converter': name,
        'processes': how[1],
        'MB of text': size,
        'seconds': found['seconds'],
        'CPU s': found['cpu'],
        'start s': start['seconds'],
        'start CPU s': start['cpu'],
        'MB/s': size / found['seconds'],
        'MB/s after start': size / max(found['seconds'] - start['seconds'], 1e-9),
        'MB/CPU s after start': size / max(found['cpu'] - start['cpu'], 1e-9),
        'peak MB a process': found['peak_mb'],
        **{f'{stage} %': 100 * stages[stage] / total if stages else None for stage in STAGES},
    }


STAGES = ('read and parse', 'check', 'encode', 'split', 'pack', 'write')


def measure_all(root: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every converter."""
    cores = os.cpu_count() or 1
    full, part, tiny = root / 'full', root / 'part', root / 'tiny'
    make_corpus(args.corpus, full, args.mb)
    part.mkdir()
    for path in sorted(full.glob('*.000.*'))[: args.peer_files]:
        shutil.copyfile(path, part / path.name)
    tiny.mkdir()
    save(tiny / 'tiny.jsonl.zst', [json.dumps({'text': f'{i} ' * 1000}).encode() + b'\n' for i in range(20)])
    starts = {
        how: measure(tiny, args.tokenizer, *how)
        for how in (('ours', 1, 'auto'), ('ours', cores, 'auto'), ('llm-foundry', 1, ''))
    }
    plans = [
        ('skillit_stream', full, starts['ours', cores, 'auto'], 'ours', cores, 'auto'),
        ('skillit_stream', full, starts['ours', 1, 'auto'], 'ours', 1, 'auto'),
        ('with tokenizers', part, starts['ours', 1, 'auto'], 'ours', 1, 'tokenizers'),
        ("llm-foundry's shape", part, starts['llm-foundry', 1, ''], 'llm-foundry', 1, ''),
    ]
    rows = [row_of(name, corpus, args, start, *how) for name, corpus, start, *how in plans]
    peer = rows[-1]['MB/s']
    return [{**row, "times llm-foundry's": row['MB/s'] / peer} for row in rows]


def compare(root: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Another release and this one in turn, the fastest of several runs."""
    corpus = root / 'full'
    tiny = root / 'tiny'
    make_corpus(args.corpus, corpus, args.mb)
    tiny.mkdir()
    save(tiny / 'tiny.jsonl.zst', [json.dumps({'text': f'{i} ' * 1000}).encode() + b'\n' for i in range(20)])
    rows: list[dict[str, Any]] = []
    for workers, parts in ((os.cpu_count() or 1, ''), (1, PARTS)):
        pairs: dict[str, list[dict[str, Any]]] = {'before': [], 'now': []}
        for _ in range(args.repeats):
            for name, code in (('before', args.before), ('now', str(ROOT))):
                start = measure(tiny, args.tokenizer, 'ours', workers, parts=parts, code=code)
                row = row_of(name, corpus, args, start, 'ours', workers, parts=parts, code=code)
                pairs[name].append(row | {'parts': parts or 'own choice'})
        rows += [min(found, key=lambda row: row['seconds']) for found in pairs.values()]
    return rows


def compare_skills(root: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Another release and this one on the same text, dealt to more and more skills."""
    make_corpus(args.corpus, root / 'full', 1)
    texts = [row['text'] for path in sorted((root / 'full').glob('*.zst')) for row in read_rows(path)]
    pieces = [text[begin : begin + PIECE] for text in texts for begin in range(0, len(text), PIECE)]
    random.Random(17).shuffle(pieces)
    rows = []
    for skills in args.skills:
        folder = root / f'skills{skills}'
        folder.mkdir()
        size = sum(len(piece.encode()) for piece in pieces) / 1e6
        with (folder / 'a.jsonl').open('w', encoding='utf-8') as file:
            for number, text in enumerate(pieces):
                file.write(json.dumps({'text': text, 'skill': f's{number % skills}'}) + '\n')
        for name, code in (('before', args.before), ('now', str(ROOT))):
            found = measure(folder, args.tokenizer, 'ours', 1, parts='', code=code)
            row = {'converter': name, 'skills': skills, 'MB of text': size, 'seconds': found['seconds']}
            rows.append({**row, 'CPU s': found['cpu'], 'peak MB a process': found['peak_mb']})
        shutil.rmtree(folder)
    return rows


def main() -> None:
    """Make the corpus, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--tokenizer', default='gpt2', help='name on the hub, or a folder')
    parser.add_argument('--corpus', nargs='+', default=[], help='folders of .jsonl.zst')
    parser.add_argument('--mb', type=float, default=600, help='text to convert')
    parser.add_argument('--peer-files', type=int, default=7, help='files that the slow ones get')
    parser.add_argument('--before', help='checkout of another release')
    parser.add_argument('--skills', nargs='+', type=int, help='numbers of skills')
    parser.add_argument('--repeats', type=int, default=2, help='of each, in turn, with --before')
    parser.add_argument('--one', nargs=7, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, corpus, out, tokenizer, workers, encoder, parts = args.one
        if kind == 'ours':
            stages = ours(
                Path(corpus), Path(out), tokenizer, workers=int(workers), encoder=encoder, parts=parts
            )
        else:
            stages = llm_foundry_shape(Path(corpus), Path(out), tokenizer)
        print(json.dumps({'stages': stages}))
        return
    name, measured = 'convert', measure_all
    if args.before:
        name, measured = ('convert_skills', compare_skills) if args.skills else ('convert_before', compare)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), args)
    configuration = {'seq_len': SEQ_LEN, 'mb': args.mb, 'tokenizer': Path(args.tokenizer).name}
    configuration['corpus'] = [Path(one).name for one in args.corpus] or 'installed Python sources'
    publish(name, rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
