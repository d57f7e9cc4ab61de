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

    Decorating adds one to the total; a decorated function that returned adds one to the count and reports
    update_instance_progress(context, uuid, {'progress': percent}). The default writes to the database the context
    is bound to; an unbound context reports nothing.
    """
    total = total_offset
    done = total_offset
    uuid = instance["uuid"]

    def report(percent: int) -> None:
        updates = {"progress": percent}
        if update_instance_progress is not None:
            update_instance_progress(context, uuid, updates)
            return
        try:
            db = context.services.db
        except (exception.ContextNotBound, AttributeError):
            return
        db.instance_update(context, uuid, updates)

    def step(function):
        nonlocal total
        total += 1

        @functools.wraps(function)
        def run(*args, **kwargs):
            nonlocal done
            result = function(*args, **kwargs)
            done += 1
            report(round(done / total * 100))
            return result

        return run

    return step


def ignoring_gone(function: Callable[..., Any], *args) -> None:
    """Call function(*args); an object that is gone is what was wanted."""
    try:
        function(*args)
    except XenAPI.Failure as failure:
        if not errors.is_gone(failure):
            raise
