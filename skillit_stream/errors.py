"""The one exception that says: the input is at fault, here is what to change."""


class InputError(ValueError):
    """Bad usage or bad input: the message names what, where and the remedy in one line.

    The command line prints the message alone and exits with code 2; in Python it is a ``ValueError``.
    """
