"""Mistakes that end a command."""


class CommandError(Exception):
    """What the user asked for cannot be done; the text is one line that says why."""


_LONGEST_LINE = 1000  # characters: a text may quote what was given


def one_line(error: BaseException) -> str:
    """Return the error's text without a remote traceback, on one line; its class when it has none."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…"
