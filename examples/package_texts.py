"""Real text that every installation has: the files of its own Python packages, sorted by kind.

python examples/package_texts.py demo/corpus

makes a folder of text files a kind: `train/` has six kinds, `targets/` three, of which nothing is in `train/`.
"""

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

MEGABYTES_OF_A_KIND = 2.0
LARGEST, SMALLEST = 64_000, 400  # bytes of a file


def ends_with(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix in suffixes


KINDS: dict[str, Callable[[Path], bool]] = {
    'train/python': ends_with('.py'),
    'train/cpp_headers': ends_with('.h', '.hpp'),
    'train/json': ends_with('.json'),
    'train/records': lambda path: path.name == 'RECORD',
    'train/licences': lambda path: path.name.startswith(('LICENSE', 'LICENCE', 'COPYING', 'NOTICE')),
    'train/documentation': lambda path: path.name == 'METADATA' or path.suffix in ('.md', '.rst', '.txt'),
    'targets/stubs': ends_with('.pyi'),
    'targets/cuda': ends_with('.cu', '.cuh'),
    'targets/cython': ends_with('.pyx', '.pxd'),
}


def texts_of(paths: list[Path], packages: Path) -> Iterator[tuple[str, str]]:
    """Name and text of different files, in an order that has nothing to do with the folders they lie in."""
    seen: set[str] = set()
    hashes = {hashlib.sha256(str(path.relative_to(packages)).encode()).hexdigest(): path for path in paths}
    for name, path in sorted(hashes.items()):
        text = path.read_bytes().decode('utf-8', errors='ignore')
        if text not in seen:  # the licence of many packages is the same
            seen.add(text)
            yield name[:16], text


def main(out: str) -> None:
    """Write the folder; a kind ends at two megabytes."""
    packages = Path(sysconfig.get_path('purelib'))
    files: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in packages.rglob('*'):
        kind = next((kind for kind, belongs in KINDS.items() if belongs(path)), None)
        if kind and path.is_file() and SMALLEST <= path.stat().st_size <= LARGEST:
            files[kind].append(path)
    for kind, paths in files.items():
        folder = Path(out) / kind
        folder.mkdir(parents=True, exist_ok=True)
        written, count = 0, 0
        for name, text in texts_of(paths, packages):
            if written >= MEGABYTES_OF_A_KIND * 1e6:
                break
            (folder / f'{name}.txt').write_text(text, encoding='utf-8')
            written, count = written + len(text), count + 1
        print(f'{folder}: {count:,} files, {written / 1e6:.2f} MB')


if __name__ == '__main__':
    main(*sys.argv[1:])
