"""The one kind of error that is meant for the user."""


class UserError(ValueError):
    """Bad input. The message names the thing and the way out; commands print no traceback."""
