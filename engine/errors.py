"""What the engine raises when the user, not the program, can put it right."""


class UserError(Exception):
    """One clear line for the user: names the file, line or key, and says what to do.

    Commands print it on stderr and end with ``exit_code``; screens show it in place.
    """

    exit_code = 1


class UsageError(UserError):
    """The command line or a recipe key is wrong: exit status 2, as argparse's own errors."""

    exit_code = 2
