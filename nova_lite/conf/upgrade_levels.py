"""[upgrade_levels]: versions sent are capped while older neighbours or services are still running."""

from oslo_config import cfg


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [("upgrade_levels", [
        cfg.StrOpt(name, help=f"Highest version of the {what} interface that is sent: a number or a release name.")
        for name, what in (
            ("cells", "cells"),
            ("intercell", "inter-cell"),
            ("compute", "compute"),
            ("scheduler", "scheduler"),
            ("consoleauth", "consoleauth"),
        )
    ])]
