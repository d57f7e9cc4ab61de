"""Hold the dom0 plugins to the language and library level of dom0: Python 3.6, standard library only."""

import pathlib
import subprocess
import sys

PLUGINS = pathlib.Path("nova_lite/virt/xenapi/dom0")


def main() -> int:
    if not any(PLUGINS.glob("*.py")):
        print(f"check_dom0: there is nothing in {PLUGINS}")
        return 1
    vermin = pathlib.Path(sys.executable).with_name("vermin")
    return subprocess.call([str(vermin), "--violations", "--no-tips", "-t=3.6-", str(PLUGINS)])


if __name__ == "__main__":
    sys.exit(main())
