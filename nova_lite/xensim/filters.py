"""Filter expressions of get_all_records_where."""

import re
from collections.abc import Callable

from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import Class

TOKEN = re.compile(r'\s*(?:(true|false|not|and|or|field)\b|([()=])|"([^"]*)")')
DEPTH_LIMIT = 200

Matcher = Callable[[dict[str, str]], bool]


class FilterParser:
    """Compiles one expression into a function of {column: database text}.

    `and` and `or` are left associative with equal precedence; `not` binds loosest: `not A and B` negates all of it.
    """

    def __init__(self, text: str, described: Class):
        self._text = text
        self._columns = {field.column for field in described.fields.values()} | {"_ref"}
        self._tokens = list(self._split(text))
        self._depth = 0
        self.used: set[str] = set()

    def parse(self) -> Matcher:
        """Return the matcher. Raises INVALID_VALUE when the text does not follow the grammar."""
        matcher = self._expression()
        if self._tokens:
            raise self._invalid(f"unexpected {self._tokens[0][1]!r}")
        return matcher

    def check_columns(self) -> None:
        """Raise INTERNAL_ERROR for a column the class does not have."""
        for column in sorted(self.used - self._columns):
            raise internal_error(f'Db_exn.DBCache_NotFound("missing column", "{column}")')

    def _invalid(self, detail: str) -> ApiError:
        return ApiError("INVALID_VALUE", self._text, detail)

    def _split(self, text: str):
        position, end = 0, len(text.rstrip())
        while position < end:
            match = TOKEN.match(text, position)
            if not match:
                raise self._invalid(f"cannot read at character {position}")
            word, sign, literal = match.groups()
            yield ("literal", literal) if literal is not None else ("sign", word or sign)
            position = match.end()

    def _take(self, kind: str, text: str | None = None) -> str:
        if not self._tokens or self._tokens[0][0] != kind or (text is not None and self._tokens[0][1] != text):
            raise self._invalid(f"expected {text or kind}")
        return self._tokens.pop(0)[1]

    def _at(self, text: str) -> bool:
        return bool(self._tokens) and self._tokens[0] == ("sign", text)

    def _expression(self) -> Matcher:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._invalid("nested too deeply")
        matcher = self._negation() if self._at("not") else self._chain()
        self._depth -= 1
        return matcher

    def _negation(self) -> Matcher:
        self._take("sign", "not")
        negated = self._expression()
        return lambda row: not negated(row)

    def _chain(self) -> Matcher:
        first, rest = self._term(), []
        while self._at("and") or self._at("or"):
            joins_both = self._take("sign") == "and"
            rest.append((joins_both, self._negation() if self._at("not") else self._term()))

        def matches(row):
            answer = first(row)
            for joins_both, matcher in rest:
                answer = (answer and matcher(row)) if joins_both else (answer or matcher(row))
            return answer

        return matches if rest else first

    def _term(self) -> Matcher:
        for constant in (True, False):
            if self._at(str(constant).lower()):
                self._take("sign")
                return lambda _row, answer=constant: answer
        if self._at("("):
            self._take("sign")
            inside = self._expression()
            self._take("sign", ")")
            return inside
        left = self._operand()
        self._take("sign", "=")
        right = self._operand()
        return lambda row: left(row) == right(row)

    def _operand(self):
        if self._at("field"):
            self._take("sign")
            column = self._take("literal")
            self.used.add(column)
            return lambda row: row[column]
        literal = self._take("literal")
        return lambda _row: literal
