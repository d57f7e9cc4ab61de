"""The control operations of a simulator in another process."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

PATH = "/_xensim/"
TIMEOUT_S = 600


class RemoteControl:
    """Each operation of `Control` is a method here; arguments are given by name, or in the operation's order.

    Raises OSError when the simulator cannot be reached (PermissionError: it refuses the password), ValueError when it
    refuses the operation or its arguments. `tls` judges the simulator's certificate; the default asks for a valid one.
    """

    def __init__(
        self, url: str, username: str = "root", password: str = "xensim", tls: ssl.SSLContext | None = None
    ):
        self._tls = tls
        self._url = url.rstrip("/") + PATH
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def operation(*positional: Any, **arguments: Any) -> Any:
            body = json.dumps({"positional": positional, "arguments": arguments}).encode()
            request = urllib.request.Request(self._url + name, body, self._headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                if error.code == 401:
                    raise PermissionError("the simulator refuses these credentials") from None
                text = error.read().decode(errors="replace")
                raise ValueError(f"the simulator refused {name}: {error.code} {text}") from None

        return operation
