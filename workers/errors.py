"""What the command line makes of an error."""


class Failure(Exception):
    """A negative result: the command ends with exit code 1 and this message."""
