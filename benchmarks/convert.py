"""Text in, packed MDS streams out: megabytes of text a second, and where the time goes.

    python benchmarks/convert.py --tokenizer NAME_OR_FOLDER [--corpus FOLDER] [--mb 600] [--out benchmarks/results]

Converts .jsonl.zst files, one skill a file, with one process and with one a core, and beside it by the shape of
llm-foundry's converter (its `convert_dataset_json.py` with `--concat_tokens`, written anew here): one process, one
document at a time through the tokenizer's call, EOS between, int32 tokens through MDSWriter.
The corpus is that of `--corpus` (a folder of .jsonl.zst), or is made from the Python sources that are installed;
it is repeated under other names until it holds `--mb` of text. The peer and the slower encoder get a part of
it, for they would take minutes. Times are of whole commands, start of Python included; what a command takes for an
empty corpus is in the column `start s`.
"""

import argparse
import json
import os
import resource
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
FILE_BYTES = 10 << 20


def make_corpus(source: Path | None, folder: Path, megabytes: float) -> None:
    """Files of about 10 MB of text, until there is enough."""
    folder.mkdir(parents=True)
    files = sorted(source.glob('*.jsonl.zst')) if source else list(write_python_sources(folder / '.source'))
    total = copy = 0
    while total < megabytes * 1e6:
        for path in files:
            shutil.copyfile(path, folder / f'{path.name.split(".")[0]}.{copy:03}.jsonl.zst')
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


def ours(corpus: Path, out: Path, tokenizer: str, workers: int, encoder: str) -> dict[str, float]:
    """`skillit convert jsonl` on a corpus; seconds by stage."""
    import skillit_stream.convert.corpora.jsonl as module
    from skillit_stream.convert.pipeline import convert

    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = ['--skill-from', 'folder', '--out', str(out), '--tokenizer', tokenizer, '--encoder', encoder]
    # The smaller of the parts that a corpus of terabytes would be cut into, so that all processes have some.
    options += ['--seq-len', str(SEQ_LEN), '--workers', str(workers), '--part-size', '8mb', str(corpus)]
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


def measure(corpus: Path, tokenizer: str, kind: str, workers: int, encoder: str) -> dict[str, Any]:
    """One conversion in a process of its own: seconds, peak memory, seconds by stage."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        arguments = [kind, str(corpus), f'{folder}/out', tokenizer, str(workers), encoder]
        command = [sys.executable, __file__, '--one', *arguments]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f'{kind} failed:\n{done.stderr}')
    return {'seconds': seconds, **json.loads(done.stdout.strip().splitlines()[-1])}


def row_of(name: str, corpus: Path, args: argparse.Namespace, start: float, *how: Any) -> dict[str, Any]:
    """A line of the table."""
    size = sum(map(text_bytes, sorted(corpus.glob('*.zst')))) / 1e6
    found = measure(corpus, args.tokenizer, *how)
    stages = found['stages']
    total = sum(stages.values())
    return {
        'converter': name,
        'processes': how[1],
        'MB of text': size,
        'seconds': found['seconds'],
        'start s': start,
        'MB/s': size / found['seconds'],
        'MB/s after start': size / max(found['seconds'] - start, 1e-9),
        'peak MB a process': found['peak_mb'],
        **{f'{stage} %': 100 * stages[stage] / total if stages else None for stage in STAGES},
    }


STAGES = ('read and parse', 'check', 'encode', 'split', 'pack', 'write')


def measure_all(root: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every converter."""
    cores = os.cpu_count() or 1
    full, part, tiny = root / 'full', root / 'part', root / 'tiny'
    source = Path(args.corpus) if args.corpus else None
    make_corpus(source, full, args.mb)
    part.mkdir()
    for path in sorted(full.glob('*.000.*'))[: args.peer_files]:
        shutil.copyfile(path, part / path.name)
    tiny.mkdir()
    save(tiny / 'tiny.jsonl.zst', [json.dumps({'text': f'{i} ' * 1000}).encode() + b'\n' for i in range(20)])
    starts = {
        how: measure(tiny, args.tokenizer, *how)['seconds']
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


def main() -> None:
    """Make the corpus, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--tokenizer', default='gpt2', help='name on the hub, or a folder')
    parser.add_argument('--corpus', help='folder of .jsonl.zst')
    parser.add_argument('--mb', type=float, default=600, help='text to convert')
    parser.add_argument('--peer-files', type=int, default=7, help='files that the slow ones get')
    parser.add_argument('--one', nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, corpus, out, tokenizer, workers, encoder = args.one
        if kind == 'ours':
            stages = ours(Path(corpus), Path(out), tokenizer, int(workers), encoder)
        else:
            stages = llm_foundry_shape(Path(corpus), Path(out), tokenizer)
        peaks = [
            resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        print(json.dumps({'stages': stages, 'peak_mb': max(peaks) / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(Path(folder), args)
    configuration = {'seq_len': SEQ_LEN, 'mb': args.mb, 'tokenizer': Path(args.tokenizer).name}
    configuration['corpus'] = Path(args.corpus).name if args.corpus else 'installed Python sources'
    publish('convert', rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
