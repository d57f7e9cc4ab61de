"""Mistakes that end a command."""


class CommandError(Exception):
    """What the user asked for cannot be done; the text is one line that says why."""


def one_line(error: BaseException) -> str:
    """Return the error's text without a remote traceback, on one line; its class when it has none."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
