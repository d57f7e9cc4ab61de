"""Doing things in steps that can be taken back."""

import functools
from collections.abc import Callable
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors

LOG = logging.getLogger(__name__)


class Undo:
    """A stack of acts that take back what was done.

    Use as a context manager: leaving with an exception runs the acts in reverse and lets that exception go on.
    A failing act is logged; it neither stops the others nor takes the place of the first error.
    """

    def __init__(self, what: str):
        self._what = what
        self._acts: list[tuple[Callable[..., Any], tuple, dict]] = []

    def add(self, act: Callable[..., Any], *args, **kwargs) -> None:
        """Register the act that takes back what was just done."""
        self._acts.append((act, args, kwargs))

    def __enter__(self) -> "Undo":
        return self

    def __exit__(self, exc_type, error, traceback) -> None:
        if error is not None:
            LOG.warning("Failed to %s, rolling back: %s", self._what, error)
            self.run()

    def run(self) -> None:
        """Run all acts, last first."""
        while self._acts:
            act, args, kwargs = self._acts.pop()
            try:
                act(*args, **kwargs)
            except Exception:
                LOG.exception("Rolling back to %s: %s failed", self._what, getattr(act, "__name__", act))


def make_step_decorator(context, instance, update_instance_progress=None, total_offset=0):
    """Return a decorator that counts steps and reports progress as they are done.

    Decorating adds one to the total, which starts at total_offset; a decorated function that returned adds one to the
    count and reports update_instance_progress(context, instance, current, total). The default writes the percentage
    to the database the context is bound to; an unbound context reports nothing.
    """
    report = update_instance_progress or _note_in_database
    total = total_offset
    current = 0

    def step(function):
        nonlocal total
        total += 1

        @functools.wraps(function)
        def run(*args, **kwargs):
            nonlocal current
            result = function(*args, **kwargs)
            current += 1
            report(context, instance, current, total)
            return result

        return run

    return step


def percentage(current: int, total: int) -> int:
    """Return how far a plan is of which `current` steps of `total` are done."""
    return round(current / total * 100)


def _note_in_database(context, instance, current: int, total: int) -> None:
    try:
        db = context.services.db
    except (exception.ContextNotBound, AttributeError):
        return
    db.instance_update(context, instance["uuid"], {"progress": percentage(current, total)})


def ignoring_gone(function: Callable[..., Any], *args) -> None:
    """Call function(*args); an object that is gone is what was wanted."""
    try:
        function(*args)
    except XenAPI.Failure as failure:
        if not errors.is_gone(failure):
            raise
