"""Errors that a person can mend. Each message is one sentence; a script prints it and exits."""


class InputError(ValueError):
    """What the program was given (a path, an option, a file) cannot be used."""


class ImageError(InputError):
    """One image file cannot be used; the message begins with its path."""


class NotFinite(RuntimeError):
    """A loss stopped being a number; what was good before that is kept."""


class Collapsed(RuntimeError):
    """A training that can no longer come to anything; what was good before that is kept."""
