"""How operations become methods of ``Database``.

A part is a class of one subject; a method it marks with ``@operation`` is offered by Database under the same name,
with the same signature and docstring. An operation that loses against others (a deadlock, a serialisation failure) is
run again, unless it has joined a transaction: then the owner of that has to.
"""

import functools
from collections.abc import Callable
from typing import Any

from nova_lite.db.store import Store

_MAX_RETRIES = 20
_FIRST_PAUSE_S = 0.02
_MAX_PAUSE_S = 1.0


class Part:
    """Operations of one subject. ``db`` is the whole, for what belongs to other parts."""

    def __init__(self, db: Any):
        self.db = db
        self.store: Store = db.store
        self.conf = db.conf


def operation(function: Callable) -> Callable:
    """Offer a part's method as an operation of the database."""

    @functools.wraps(function)
    def with_retry(self: Part, *args: Any, **kwargs: Any) -> Any:
        if self.store.is_open():
            return function(self, *args, **kwargs)
        return _retrying(function)(self, *args, **kwargs)

    with_retry.is_operation = True
    return with_retry


@functools.cache
def _retrying(function: Callable) -> Callable:
    import oslo_db.api

    return oslo_db.api.wrap_db_retry(
        max_retries=_MAX_RETRIES, retry_interval=_FIRST_PAUSE_S, inc_retry_interval=True,
        max_retry_interval=_MAX_PAUSE_S, retry_on_deadlock=True, jitter=True)(function)


def index(*parts: type[Part]) -> Callable[[type], type]:
    """Make a class the index of parts: give it a method for each of their operations."""

    def decorate(cls: type) -> type:
        cls.parts = parts
        for part in parts:
            for name, function in vars(part).items():
                if getattr(function, "is_operation", False):
                    if hasattr(cls, name):
                        raise TypeError(f"{name} is offered twice")
                    setattr(cls, name, _delegating(part, function))
        return cls

    return decorate


def _delegating(part: type[Part], function: Callable) -> Callable:
    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self._parts[part], *args, **kwargs)

    return method
