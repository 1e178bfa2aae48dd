"""The exception that the command line reports as a failure."""


class Failure(Exception):
    """A command did not succeed. It prints this message and ends with exit code 1."""
