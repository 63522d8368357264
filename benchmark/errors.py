"""Errors that end a command with one line instead of a traceback."""

from __future__ import annotations


class BadInput(ValueError):
    """A request or a file that cannot be used. The command ends with status 2.

    The message has the form `argument: expected X, got Y; next step`.
    """


class Stopped(RuntimeError):
    """A run that cannot continue, for example because the disk is full. The command ends with status 1.

    Finished cells are kept, and the message says how to continue.
    """
