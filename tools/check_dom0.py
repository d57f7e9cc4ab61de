"""Hold the dom0 plugins to the language and library level of dom0: Python 3.6, standard library only."""

import pathlib
import subprocess
import sys

PLUGINS = pathlib.Path("nova_lite/virt/xenapi/dom0")


def main() -> int:
    if not any(PLUGINS.rglob("*.py")) and not (PLUGINS.is_dir() and any(PLUGINS.iterdir())):
        print("no dom0 plugins to check")
        return 0
    return subprocess.call(["vermin", "--violations", "--no-tips", "-t=3.6-", str(PLUGINS)])


if __name__ == "__main__":
    sys.exit(main())
