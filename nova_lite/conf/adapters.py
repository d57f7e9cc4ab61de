"""Adapters that an option names."""

from typing import Any

from oslo_config import cfg

from nova_lite import exception


def load(group: str, name: str, conf: cfg.ConfigOpts) -> Any:
    """Return the adapter that is registered as entry point `name` of `group`, made with `conf`.

    Raises ConfigurationError when nobody registered that name.
    """
    from stevedore import driver
    from stevedore import exception as stevedore_exception

    try:
        return driver.DriverManager(group, name, invoke_on_load=True, invoke_args=(conf,)).driver
    except stevedore_exception.NoMatches as error:
        raise exception.ConfigurationError(reason=f"Nobody registered {name!r} as entry point of {group}") from error


def load_class(path: str, conf: cfg.ConfigOpts) -> Any:
    """Return the adapter of the class at dotted `path`, made with `conf`. Raises ConfigurationError."""
    from oslo_utils import importutils

    try:
        return importutils.import_class(path)(conf)
    except ImportError as error:
        raise exception.ConfigurationError(reason=f"There is no class {path}: {error}") from error
