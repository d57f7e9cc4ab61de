"""The form of messages between cells of our kind that costs those who pass them on little.

Only what somebody waits for travels so: requests that want an answer, and answers. The text has three lines:

    lean [signature sender]
    {"message_type": …, "routing_path": …, …}            what the way needs: all fields of a message but two
    {"ctxt": {…}, "method_kwargs": {…}}                  of a request; of an answer: [Response, …]

The last line is written where the message starts and read where the work is done; whoever passes the message on hands
it over as it came. A context's empty keys are left out. A cell says that it reads this form by `msg_version` 2.
"""

import json
from collections.abc import Iterable
from typing import Any

from nova_lite.context import RequestContext

VERSION = 2
_MARK = "lean"


def is_lean(text: str) -> bool:
    return text.startswith(_MARK)


def write(fields: dict[str, Any], body: str) -> str:
    """Return the text of a message, not signed."""
    return f"{_MARK}\n{json.dumps(fields)}\n{body}"


def read(text: str) -> dict[str, Any]:
    """Return the fields of a message, its last line unread as 'body'. Raises ValueError for what is no message."""
    _mark, header, body = text.split("\n", 2)
    fields = json.loads(header)
    if not isinstance(fields, dict):
        raise ValueError("the second line of a message must be an object")
    fields["body"] = body
    return fields


def signed(text: str, signature: str, sender: str) -> str:
    """Return an unsigned text with a signature."""
    return f"{_MARK} {signature} {sender}{text[len(_MARK):]}"


def signature_of(text: str) -> tuple[str, str, str]:
    """Return the signature, who gives it, and the text that it is for; '' and '' for one without."""
    mark, _newline, rest = text.partition("\n")
    _mark, _space, seal = mark.partition(" ")
    signature, _space, sender = seal.partition(" ")
    return signature, sender, f"{_MARK}\n{rest}"


def as_reference(text: str) -> dict[str, Any]:
    """Return the fields of a message as the reference has them. Raises KeyError, TypeError and ValueError."""
    fields = read(text)
    body = fields.pop("body")
    if fields["message_type"] == "response":
        ctxt: dict[str, Any] = {}
        kwargs: dict[str, Any] = {"orig_message": "", "responses": single_texts([body])}
    else:
        ctxt, kwargs = read_request(body)
    return {**fields, "ctxt": full_context(ctxt), "method_kwargs": kwargs, "fanout": False}


def full_context(ctxt: dict[str, Any]) -> dict[str, Any]:
    """Return a context with all the keys that the reference writes."""
    return RequestContext.from_dict(ctxt).to_dict()


# -- the last line of a request

def request_body(ctxt: dict[str, Any], kwargs: dict[str, Any]) -> str:
    return json.dumps({"ctxt": {key: value for key, value in ctxt.items() if value is not None},
                       "method_kwargs": kwargs})


def read_request(body: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a request's context and arguments in wire form. Raises ValueError for what is none."""
    fields = json.loads(body)
    ctxt, kwargs = fields["ctxt"], fields["method_kwargs"]
    if not isinstance(ctxt, dict) or not isinstance(kwargs, dict):
        raise ValueError("context and arguments of a message must be objects")
    return ctxt, kwargs


# -- the last line of an answer: texts of single responses, and of lists of them, are put together without being read

def answer_body(texts: Iterable[str]) -> str:
    parts = (text[1:-1] if text.startswith("[") else text for text in texts)
    return f"[{','.join(part for part in parts if part)}]"


def responses_in(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the fields of each response in the texts. Raises ValueError."""
    found: list[dict[str, Any]] = []
    for text in texts:
        value = json.loads(text)
        found += value if isinstance(value, list) else [value]
    return found


def single_texts(texts: Iterable[str]) -> list[str]:
    """Return the text of each response by itself, as the reference has it."""
    single: list[str] = []
    for text in texts:
        single += [json.dumps(fields) for fields in json.loads(text)] if text.startswith("[") else [text]
    return single
