"""nova-lite host, nova-lite service: what runs where in the tree."""

from nova_lite.client import base


class ListServices(base.Listing):
    """List the services of every cell, and whether they are up."""

    def take_action(self, parsed_args):
        titles = ("ID", "Binary", "Host", "Zone", "Status", "State", "Reason")
        return titles, [
            (service["id"], service["binary"], service["host"], service.get("availability_zone"),
             "disabled" if service["disabled"] else "enabled", self._state(service), service.get("disabled_reason"))
            for service in self.api.host_api.service_get_all(self.context, set_zones=True)
        ]  # fmt: skip

    def _state(self, service) -> str:
        from nova_lite import servicegroup

        return "up" if servicegroup.API(self.services).service_is_up(service) else "down"


class ListHosts(base.Listing):
    """List the compute hosts of every cell, with what they have and use."""

    COLUMNS = (
        ("ID", "id"), ("Host", "host"), ("Hypervisor", "hypervisor_hostname"), ("Type", "hypervisor_type"),
        ("RAM MB", "memory_mb"), ("RAM Used", "memory_mb_used"), ("Disk GB", "local_gb"),
        ("Disk Used", "local_gb_used"), ("VMs", "running_vms"),
    )  # fmt: skip

    def take_action(self, parsed_args):
        return base.table(self.COLUMNS, self.api.host_api.compute_node_get_all(self.context))
