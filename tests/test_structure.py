"""The shape of the package: who may import whom, and what is cheap to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / 'skillit_stream'

# The rooms from the ground up: each imports only from those below it, and those of a floor not from each other.
FLOORS = (
    ('base',),
    ('formats', 'mixture'),
    ('order',),
    ('loader',),
    ('mixing',),
    ('training', 'convert', 'mixture_fit', 'audit', 'report'),
    ('graphs', 'steering'),
    ('forks',),
    # The command line names the commands' modules as text: it imports none of them.
    ('cli', 'train'),
    ('experiments',),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_by(path: Path) -> set[str]:
    """First names below skillit_stream that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        modules = [node.module or ''] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found |= {
            module.split('.')[1] if '.' in module else ''
            for module in modules
            if module.startswith('skillit_stream')
        }
    return found


@pytest.mark.parametrize('room', sorted(FLOOR_OF))
def test_imports_point_downwards(room: str):
    folder = ROOT / 'convert' if room == 'convert' else PACKAGE / room
    files = sorted(folder.rglob('*.py')) if folder.is_dir() else [PACKAGE / f'{room}.py']
    assert files
    for file in files:
        for other in imported_by(file) - {room, ''}:
            assert FLOOR_OF[other] < FLOOR_OF[room], (file, other)


def test_every_room_has_its_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert rooms - {'__init__', '__pycache__'} == set(FLOOR_OF)


@pytest.mark.parametrize('room', ['base', 'formats', 'mixture', 'order'])
def test_the_rooms_below_the_loader_need_neither_torch_nor_scipy(room: str):
    files = ','.join(f'skillit_stream.{room}.{path.stem}' for path in (PACKAGE / room).glob('[a-z]*.py'))
    code = f'import sys, {files}; print(sorted({{"torch", "streaming", "composer", "scipy"}} & set(sys.modules)))'
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == '[]'


# Of what a plain training loop needs, nothing may ask for it.
WITHOUT_COMPOSER = ('base', 'formats', 'mixture', 'order', 'loader', 'mixing')


@pytest.mark.parametrize('room', WITHOUT_COMPOSER)
def test_the_rooms_below_training_import_neither_composer_nor_what_comes_with_it(room: str):
    for file in (PACKAGE / room).rglob('*.py'):
        imports = list(ast.walk(ast.parse(file.read_text(encoding='utf-8'))))
        names = {node.module or '' for node in imports if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        assert not {name.split('.')[0] for name in names} & {'composer', 'torchmetrics', 'llmfoundry'}, file


def test_every_package_is_installed():
    listed = (ROOT / 'pyproject.toml').read_text(encoding='utf-8').split('packages = [')[1].split(']')[0]
    for file in PACKAGE.rglob('__init__.py'):
        assert f'"{".".join(file.parent.relative_to(ROOT).parts)}"' in listed


def test_help_imports_no_heavy_package():
    code = (
        'import sys; from skillit_stream.cli import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'print(sorted({"torch", "composer", "transformers", "numpy"} & set(sys.modules)))'
    )
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith('[]')


def test_public_names_are_where_the_package_says():
    import skillit_stream

    for name in skillit_stream.__all__:
        assert getattr(skillit_stream, name).__name__ == name
    with pytest.raises(AttributeError, match='no_such_name'):
        skillit_stream.no_such_name  # noqa: B018 (the access is the test)
