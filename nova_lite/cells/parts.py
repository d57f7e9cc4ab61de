"""Long answers in parts: lists of all services or hosts of a large cell would not fit into one message."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from nova_lite import exception
from nova_lite.cells import lean
from nova_lite.cells.response import Response
from nova_lite.objects import wire

_ENVELOPE_B = 1024  # of a response, beside what it holds


def divided(texts: list[str], limit_b: int, most_b: int) -> list[list[str]]:
    """Return the texts of responses in groups of about `limit_b` characters each.

    A list that is too long by itself becomes several responses of its cell. What is no list stays in one piece; if
    that has more than `most_b` characters, which nobody would take, a failure that says so stands in its place.
    """
    if sum(map(len, texts)) <= limit_b:
        return [texts]
    groups: list[list[str]] = []
    left_b = 0
    for text in _small(texts, limit_b):
        text = _sendable(text, most_b)
        if not groups or len(text) > left_b:
            groups.append([])
            left_b = limit_b
        groups[-1].append(text)
        left_b -= len(text)
    return groups


def whole(responses: list[Response]) -> Response:
    """Return the response of one cell that came in several pieces: their lists put together.

    Messages overtake each other; the pieces of a neighbour that does not number them are taken as they came.
    """
    first, *others = sorted(responses, key=lambda one: one.piece)
    failed = next((one for one in responses if one.failure), None)
    if failed is not None or not others:
        return failed or first
    for other in others:
        if isinstance(first.value, list):
            first.value = [*first.value, *other.value]
        else:
            first.value.objects = [*first.value.objects, *other.value.objects]
    return first


def _sendable(text: str, most_b: int) -> str:
    if len(text) <= most_b:
        return text
    error = exception.Invalid(f"An answer of {len(text)} characters is too long: at most {most_b} can be sent")
    return Response(None, json.loads(text)["cell_name"], (type(error), error, None), True).to_json()


def _small(texts: Iterable[str], limit_b: int) -> Iterator[str]:
    numbers = itertools.count()
    for text in lean.single_texts(texts):
        if len(text) <= limit_b:
            yield text
        else:
            yield from _pieces(json.loads(text), limit_b, numbers)


def _pieces(fields: dict[str, Any], limit_b: int, numbers: Iterator[int]) -> Iterator[str]:
    items, put = _list_in(fields["value"]) if not fields["failure"] else (None, None)
    if items is None or put is None:
        yield json.dumps(fields)
        return
    for some in _chunks(items, max(1, limit_b - _ENVELOPE_B)):
        yield json.dumps({**fields, "value": put(some), "piece": next(numbers)})


def _list_in(value: Any) -> tuple[Any, Any]:
    """Return a value's items and what makes a value of some of them; (None, None) for what is no list."""
    if isinstance(value, list):
        return value, lambda some: some
    fields = value.get(wire.DATA) if isinstance(value, dict) else None
    if isinstance(fields, dict) and isinstance(fields.get("objects"), list):
        return fields["objects"], lambda some: {**value, wire.DATA: {**fields, "objects": some}}
    return None, None


def _chunks(items: list[Any], limit_b: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    left_b = limit_b
    for item in items:
        size_b = len(json.dumps(item)) + 2
        if chunk and size_b > left_b:
            yield chunk
            chunk, left_b = [], limit_b
        chunk.append(item)
        left_b -= size_b
    yield chunk
