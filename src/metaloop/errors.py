"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """What was received cannot work; the message says what is allowed and which config key to change.

    The command line prints the message alone and exits with status 2; anything else is our fault, shows its
    traceback and exits with status 1.
    """
