"""The one way a call fails."""


class ApiError(Exception):
    """A XenAPI failure: a code and its arguments, all text, as they travel in ErrorDescription."""

    def __init__(self, code: str, *arguments: str):
        super().__init__(code, *arguments)
        self.description = [code, *(str(argument) for argument in arguments)]

    @property
    def code(self) -> str:
        return self.description[0]


def internal_error(text: str) -> ApiError:
    return ApiError("INTERNAL_ERROR", text)


class MalformedRequest(Exception):
    """The body is not a request at all: answered with an HTTP error page."""


class DuplicateMember(Exception):
    """A struct or object has two members of one name: which of them was meant, nobody can know."""

    def __init__(self, name: str):
        super().__init__(name)
        self.description = ["INTERNAL_ERROR", f"Failure: two members are named {name[:60]!r}"]
