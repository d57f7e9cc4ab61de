"""Options: whatever an operator can set does something, or says that it does nothing."""

import re

import pytest

from nova_lite.conf import loading
from tests.tidy.source import REPOSITORY

KEPT = "Kept for configurations of older releases"
# Read by names that are put together.
COMPOSED = re.compile(r"quota_\w+|\w+_cost_fn_weight|(image|network|volume)_endpoint")
LIBRARIES = ("libraries",)


def own_options():
    """Return (group, name, help) of every option that the project has of its own."""
    for module in sorted((REPOSITORY / "nova_lite" / "conf").glob("*.py")):
        if module.stem in LIBRARIES or module.stem.startswith("_"):
            continue
        imported = __import__(f"nova_lite.conf.{module.stem}", fromlist=["options"])
        if hasattr(imported, "options") and imported is not loading:
            for group, options in imported.options():
                yield from ((group, option.dest, option.help) for option in options)


@pytest.fixture(scope="module")
def words():
    """Every word of the product's source outside of the declarations of options."""
    found = set()
    for path in (REPOSITORY / "nova_lite").rglob("*.py"):
        if path.parent.name != "conf":
            found |= set(re.findall(r"\w+", path.read_text()))
    for path in (REPOSITORY / "nova_lite" / "conf").glob("*.py"):
        if path.stem in LIBRARIES:  # it hands options of ours on
            found |= set(re.findall(r"\w+", path.read_text()))
        found |= set(re.findall(r"conf(?:\.\w+)?\.(\w+)", path.read_text()))  # checks on what is set
    return found


def test_every_option_is_read_or_said_to_be_of_no_use(words):
    unread = [f"[{group or 'DEFAULT'}] {name}" for group, name, told in own_options()
              if name not in words and not COMPOSED.fullmatch(name) and KEPT not in told]

    assert unread == []
