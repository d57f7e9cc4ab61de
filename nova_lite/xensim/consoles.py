"""Console records of running VMs."""

import uuid as uuid_module

from nova_lite.xensim.db import Row
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.vm_rules import is_hvm


class Consoles(Noun):
    def open(self, vm: Row) -> None:
        """Show the displays of a domain that has just been made."""
        address = self.db.get("host", vm["resident_on"], "address")
        for protocol in ("rfb", "vt100") if is_hvm(vm) or vm["is_control_domain"] else ("vt100",):
            console_uuid = str(uuid_module.uuid4())
            self.db.create(
                "console",
                uuid=console_uuid,
                protocol=protocol,
                location=f"https://{address}/console?uuid={console_uuid}",
                VM=vm.ref,
                port=-1,
            )

    def close(self, ref: str) -> None:
        self.db.destroy("console", ref)

    @call("console.create")
    def create(self, _caller, args):
        return self.db.create("console", **args)

    @call("console.destroy")
    def destroy(self, _caller, ref):
        self.close(ref)
