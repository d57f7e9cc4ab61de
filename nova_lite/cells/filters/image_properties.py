"""Cells whose hypervisors are recent enough for the image."""

import operator
import re

from nova_lite.cells import filters

_COMPARISON = re.compile(r"^\s*(==|!=|<=|>=|<|>|=)?\s*([\w.]+)\s*$")
_OPERATORS = {"==": operator.eq, "=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge,
              "<": operator.lt, ">": operator.gt, None: operator.eq}


class ImagePropertiesFilter(filters.BaseCellFilter):
    """Drops cells whose capability `prominent_hypervisor_version` does not satisfy the image's
    `hypervisor_version_requires` (comparisons such as '>6.0, <=6.3')."""

    def cell_passes(self, cell, filter_properties):
        image = (filter_properties.get("request_spec") or {}).get("image") or {}
        required = (image.get("properties") or {}).get("hypervisor_version_requires")
        versions = cell.capabilities.get("prominent_hypervisor_version")
        if not required or not versions:
            return True
        version = str(next(iter(versions)))
        return all(_satisfies(version, comparison) for comparison in str(required).split(","))


def _satisfies(version: str, comparison: str) -> bool:
    found = _COMPARISON.match(comparison)
    if found is None:
        return False
    sign, wanted = found.groups()
    return _OPERATORS[sign](_parts(version), _parts(wanted))


def _parts(version: str) -> tuple[tuple[int, int | str], ...]:
    """Return what versions are compared by: numbers as numbers, '6.0' equal to '6'; words after numbers."""
    parts = [(0, int(part)) if part.isdigit() else (1, part) for part in version.strip().split(".")]
    while parts and parts[-1] == (0, 0):
        parts.pop()
    return tuple(parts)
