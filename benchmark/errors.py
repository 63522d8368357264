"""What ends a command with one readable line instead of a traceback."""

from __future__ import annotations


class BadInput(ValueError):
    """A request or a file that cannot be used: the message names it, what was expected, what was found, what to do.

    The door prints the message alone and exits with status 2.
    """


class Stopped(RuntimeError):
    """A run that cannot go on, as when the disk is full. What was finished is kept, and the message says what to do.

    The door prints the message alone and exits with status 1.
    """
