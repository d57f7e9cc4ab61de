"""The metadata a user puts on an instance."""

from typing import Any

from nova_lite import exception
from nova_lite.compute import api_checks as checks
from nova_lite.context import RequestContext
from nova_lite.objects import Instance


def difference(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """Return what compute is told: `{key: ['-']}` for removed ones, `{key: ['+', value]}` for new and changed ones."""
    removed = {key: ["-"] for key in before if key not in after}
    return {**removed, **{key: ["+", value] for key, value in after.items() if before.get(key) != value}}


class Metadata:
    """Changes the rows and tells the host."""

    def __init__(self, quotas: Any, steps: Any, compute: Any) -> None:
        self._quotas = quotas
        self._steps = steps
        self._compute = compute

    def update(self, context: RequestContext, instance: Instance, metadata: dict[str, str],
               delete: bool, tell: bool = True) -> dict[str, str]:
        """Set the pairs, or with `delete` replace all by them; returns all there are now. `tell`: the host too."""
        if not isinstance(metadata, dict):
            raise exception.InvalidMetadata(reason="metadata must be pairs of keys and values")
        before = dict(instance.metadata)
        after = dict(metadata) if delete else {**before, **metadata}
        checks.check_metadata(self._quotas, context, after)
        self._write(context, instance, before, after, tell)
        return after

    def delete(self, context: RequestContext, instance: Instance, key: str, tell: bool = True) -> None:
        """Remove one pair; a key that is not there is removed already."""
        before = dict(instance.metadata)
        self._write(context, instance, before, {name: value for name, value in before.items() if name != key},
                    tell)

    def _write(self, context: RequestContext, instance: Instance, before: dict[str, str],
               after: dict[str, str], tell: bool) -> None:
        changed = difference(before, after)
        if not changed:
            return
        instance.metadata = after
        self._steps.save(instance)
        if tell and instance.host:
            self._compute.change_instance_metadata(context, instance, changed)
