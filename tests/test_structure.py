"""The shape of the package: who may import whom, and what is cheap to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'skillit_stream'

# Package -> the packages of the project that it may import from.
ALLOWED = {
    'errors': set(),
    'mixture_lines': {'errors'},
    'mixture': {'errors', 'mixture'},
    'mixture_fit': {'errors', 'mixture', 'streams', 'mixture_fit'},
    'streams': {'errors', 'mixture', 'streams'},
    'training': {'errors', 'mixture', 'streams', 'training'},
    'audit': {'errors', 'mixture', 'mixture_lines', 'streams', 'audit'},
    'report': {'errors', 'mixture_lines', 'report'},
    'graphs': {'errors', 'mixture', 'mixture_lines', 'streams', 'training', 'report', 'graphs'},
    'convert': {'errors', 'mixture', 'streams', 'convert'},
    'cli': {'errors'},
    'train': {'errors', 'cli', 'training'},
    'score': {'errors', 'graphs', 'training'},
    'experiments': {'errors', 'cli', 'experiments', 'graphs', 'mixture_lines', 'training', 'report'},
}


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


@pytest.mark.parametrize('part', sorted(ALLOWED))
def test_imports_point_downwards(part: str):
    folder = ROOT / 'convert' if part == 'convert' else PACKAGE / part
    files = sorted(folder.rglob('*.py')) if folder.is_dir() else [PACKAGE / f'{part}.py']
    assert files
    for file in files:
        assert imported_by(file) <= ALLOWED[part], file


def test_every_part_of_the_package_has_its_place():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert parts - {'__init__', '__pycache__'} == set(ALLOWED)


def test_every_package_is_installed():
    listed = (ROOT / 'pyproject.toml').read_text(encoding='utf-8').split('packages = [')[1].split(']')[0]
    for file in PACKAGE.rglob('__init__.py'):
        assert f'"{".".join(file.parent.relative_to(ROOT).parts)}"' in listed


def test_converters_use_of_the_streams_only_the_manifest():
    for file in (ROOT / 'convert').rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('skillit_stream.streams'):
                assert node.module == 'skillit_stream.streams.manifest', file


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
