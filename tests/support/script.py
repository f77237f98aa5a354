"""A script, run by :mod:`rank_server` as Python runs it: its path, then its arguments."""

import runpy
import sys


def main(arguments: list[str]) -> int:
    """Run it; 0 at its end."""
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name='__main__')
    return 0
