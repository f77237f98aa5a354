"""What becomes of the samples when a run is stopped, moved, re-mixed or given more data: this loader and its peers.

    python benchmarks/resume.py [--out benchmarks/results] [--loaders skillit_stream litdata] [--cases killed ...]
    python benchmarks/resume.py --smoke

Three streams of 256, 128 and 128 samples, each nothing but its number, so that what is lost or repeated is counted and
not estimated. Ranks are processes in a group over gloo, each with DataLoader workers; a kill is a SIGKILL of all of
them, and a checkpoint is what the loader's own `state_dict` gave three steps before. Two ranks of two workers
unless the case says otherwise, 16 samples a step in all, shuffled wherever the loader can shuffle and resume. The
table has a row a case and loader:

- same order: sample for sample what the same loader draws without the stop;
- same batches, other order inside: each step draws the same samples, handed to the ranks in another order;
- same samples, other batches: the pass draws the same samples, in other steps;
- N lost, M repeated: N samples that a run without the stop draws and this one does not, M draws beyond those it makes.
  Where the case is a pass (a mixture that changes, a stream that grows, tiny streams), N samples of the streams never
  drawn in it, M draws of a sample that was drawn before. "left at its end": litdata ends an epoch with weights as soon
  as one stream is empty, and what the others have left then is not lost;
- refused: the loader's own message, cut. hung: no rank got on for a minute.

A mixture is changed by what the loader offers: see `how` in the JSON. Peers that are not installed are named and
skipped. With `--out` the table is written as resume.json and resume.md; `--smoke` plays two cases with most of the
loaders, in seconds, and writes resume-smoke.json and resume-smoke.md: a check of the script.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import resume_cases
from numbered_streams import PER_FILE, WRITERS, write_streams
from rank_processes import run_forked
from reporting import show, versions, write
from resume_cases import CASES, CORPORA, Scene, outcome_of
from resume_loaders import FORMATS, IMPORTED, LOADERS, missing_packages
from resume_sources import SOURCES

SMOKE = ('mixture changed', 'killed')
SMOKE_LOADERS = tuple(name for name in LOADERS if 'buffer' not in name)
Row = dict[str, Any]


def import_loaders(names: Sequence[str]) -> None:
    """Import what the loaders need, once: the ranks are forked from here."""
    for name in names:
        for module in IMPORTED[name]:
            import_module(module)


def write_corpora(root: Path, names: Sequence[str]) -> None:
    """Write the streams of all cases, in the formats of these loaders."""
    formats = [kind for kind in WRITERS if kind in {FORMATS[name] for name in names}]

    def written() -> None:
        for corpus, streams in CORPORA.items():
            write_streams(root / corpus, streams, formats)

    run_forked(written, root / 'log')


def rows_of(root: Path, names: Sequence[str], cases: Sequence[str]) -> list[Row]:
    """A row a case and loader; they are played loader by loader."""
    found, corpus = {}, ''
    for name in names:
        absent = missing_packages(name)
        scene = Scene(name, root, corpus)
        for case in cases:
            row: Row = {'case': case, 'loader': name, 'lost': None, 'repeated': None, 'how': ''}
            if absent:
                row['outcome'] = f'not installed: {", ".join(absent)}'
            else:
                outcome = outcome_of(scene, case)
                row |= {'outcome': outcome.words, 'lost': outcome.lost, 'repeated': outcome.repeated}
                row['how'] = scene.kind.how_mixed if case.startswith('mixture') else ''
                print(f'{name}, {case}: {outcome.words}', flush=True)
            found[case, name] = row
        corpus = scene.corpus
    return [found[case, name] for case in cases for name in names]


def markdown_of(rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """The table with a row a case and a column a loader, and what the peers say themselves."""
    names = list(dict.fromkeys(row['loader'] for row in rows))
    cases = list(dict.fromkeys(row['case'] for row in rows))
    cells = {(row['case'], row['loader']): row['outcome'].replace('|', '\\|') for row in rows}
    lines = [
        '# Stopped, moved, re-mixed, grown: what becomes of the samples',
        '',
        f'Written by `{command}`, which says how it is counted; do not edit.',
        ', '.join(f'{package} {number}' for package, number in versions().items()) + '.',
        '',
        '| case | ' + ' | '.join(names) + ' |',
        '|---' * (len(names) + 1) + '|',
        *(f'| {case} | ' + ' | '.join(cells[case, name] for name in names) + ' |' for case in cases),
        '',
        '## The cases',
        '',
        *(f'- *{case}*: {_in_a_line(CASES[case].__doc__)}' for case in cases),
        '',
        '## How a mixture is changed',
        '',
        *(f'- {name}: {LOADERS[name].how_mixed}.' for name in names),
        '',
        '## What the loaders say themselves',
        '',
        *(f'- {line}' for name in names for line in SOURCES[name]),
    ]
    return '\n'.join(lines) + '\n'


def _in_a_line(text: str | None) -> str:
    return ' '.join((text or '').split())


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON and the table')
    parser.add_argument(
        '--smoke', action='store_true', help=f'only {" and ".join(SMOKE)}: a check of the script'
    )
    parser.add_argument('--loaders', nargs='+', choices=LOADERS, help='default: all')
    parser.add_argument('--cases', nargs='+', choices=CASES, help='default: all')
    return parser.parse_args()


def main() -> None:
    """Write the streams, play the cases, publish."""
    args = options_of()
    cases = args.cases or list(SMOKE if args.smoke else CASES)
    names = args.loaders or list(SMOKE_LOADERS if args.smoke else LOADERS)
    name = 'resume-smoke' if args.smoke else 'resume'
    present = [loader for loader in names if not missing_packages(loader)]
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is asked of a hub, nothing is left in a home folder.
        os.environ |= {'HF_HOME': f'{folder}/hub', 'HF_HUB_OFFLINE': '1', 'HF_DATASETS_OFFLINE': '1'}
        import_loaders(present)
        write_corpora(Path(folder), present)
        rows = rows_of(Path(folder), names, cases)
    show(name, [{key: row[key] for key in ('case', 'loader', 'outcome')} for row in rows])
    if args.out is None:
        return
    configuration = {
        'streams': CORPORA,
        'samples_per_file': PER_FILE,
        'ranks': 2,
        'workers': 2,
        'global_batch': 16,
        'steps_in_round': resume_cases.STEPS_IN_ROUND,
        'checkpoint_after_step': resume_cases.SAVED,
        'killed_after_step': resume_cases.KILLED,
        'mixtures': resume_cases.MIXTURES,
    }
    path = write(name, rows, configuration=configuration, out=args.out)
    table = path.with_suffix('.md')
    table.write_text(markdown_of(rows, 'python benchmarks/resume.py'), encoding='utf-8')
    print(f'Written: {path}, {table}')


if __name__ == '__main__':
    main()
