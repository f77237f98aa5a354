"""Where the repository and the data beside it are, and how processes that tests start find both."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
SHARED = ROOT.parent / 'shared' / 'data'
SUPPORT = ROOT / 'tests' / 'support'

IMPORTABLE = {'PYTHONPATH': str(ROOT)}
"""The environment in which a script finds the package and `tests.support`."""

FIND_HELPERS = f'import sys; sys.path.insert(0, {str(ROOT)!r})\n'
"""The same for code given to ``python -c``, before its own."""
