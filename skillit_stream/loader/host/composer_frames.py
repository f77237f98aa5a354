"""Whether Composer is what calls: it counts epochs by itself, and says so in no argument."""

import sys


def is_called_by_composer() -> bool:
    """Whether this runs inside a Composer Trainer: while it loads a checkpoint, or in one of its algorithms."""
    frame = sys._getframe(1)
    while frame:
        if frame.f_globals.get('__name__', '').startswith('composer.'):
            return True
        frame = frame.f_back
    return False
