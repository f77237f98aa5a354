"""Where the repository and the data beside it are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
SHARED = ROOT.parent / 'shared' / 'data'
SUPPORT = ROOT / 'tests' / 'support'
