"""The exception for errors that a user can fix."""


class UserError(ValueError):
    """An input that cannot work; the message says what was received, what is allowed and which config key to change.

    The command line prints the message alone and exits with status 2. Any other exception is a fault of metaloop: the
    command line prints its traceback and exits with status 1.
    """
