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


class _OnHost(base.Action):
    """Does something to one host, named as `host list` shows it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST")
        return parser


class ShowHost(base.Showing):
    """Show one host: its service, what it has, and how long it has been up."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST")
        return parser

    def take_action(self, parsed_args):
        from nova_lite import exception, servicegroup

        api = self.api.host_api
        service = api.service_get_by_compute_host(self.context, parsed_args.host)
        up = servicegroup.API(self.services).service_is_up(service)
        shown = {"host": parsed_args.host, "status": "disabled" if service["disabled"] else "enabled",
                 "reason": service.get("disabled_reason"), "state": "up" if up else "down"}  # fmt: skip
        for node in api.compute_node_get_all(self.context):
            if base.field(node, "host") == parsed_args.host:
                shown.update({title.lower().replace(" ", "_"): base.field(node, name)
                              for title, name in ListHosts.COLUMNS if title not in ("ID", "Host")})  # fmt: skip
        try:
            shown["uptime"] = api.get_host_uptime(self.context, parsed_args.host) if up else None
        except exception.NovaException as error:
            shown["uptime"] = str(error)
        return self.dict2columns(shown)


class SetHost(_OnHost):
    """Let a host take new servers or not, or put it into maintenance, its servers moved away."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        to = parser.add_mutually_exclusive_group(required=True)
        to.add_argument("--enable", dest="act", action="store_const", const=self._enable)
        to.add_argument("--disable", dest="act", action="store_const", const=self._disable)
        to.add_argument("--maintenance", dest="act", action="store_const", const=self._begin_maintenance)
        to.add_argument("--no-maintenance", dest="act", action="store_const", const=self._end_maintenance)
        return parser

    def take_action(self, parsed_args):
        parsed_args.act(parsed_args.host)

    def _enable(self, host):
        self.api.host_api.set_host_enabled(self.context, host, True)

    def _disable(self, host):
        self.api.host_api.set_host_enabled(self.context, host, False)

    def _begin_maintenance(self, host):
        self.api.host_api.set_host_maintenance(self.context, host, True)

    def _end_maintenance(self, host):
        self.api.host_api.set_host_maintenance(self.context, host, False)


class PowerHost(_OnHost):
    """Reboot a host, shut it down or start it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("action", choices=("startup", "shutdown", "reboot"))
        return parser

    def take_action(self, parsed_args):
        self.api.host_api.host_power_action(self.context, parsed_args.host, parsed_args.action)


class ShowStatistics(base.Showing):
    """Show sums over all hosts whose services are enabled."""

    def take_action(self, parsed_args):
        return self.dict2columns(self.api.host_api.compute_node_statistics(self.context))


class SetService(base.Action):
    """Enable or disable a service, with the reason."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST")
        parser.add_argument("binary", metavar="BINARY", nargs="?", default="nova-compute")
        to = parser.add_mutually_exclusive_group(required=True)
        to.add_argument("--enable", dest="disabled", action="store_false")
        to.add_argument("--disable", dest="disabled", action="store_true")
        parser.add_argument("--reason", help="Why it is disabled.")
        return parser

    def take_action(self, parsed_args):
        reason = parsed_args.reason if parsed_args.disabled else None
        self.api.host_api.service_update(self.context, parsed_args.host, parsed_args.binary,
                                         {"disabled": parsed_args.disabled, "disabled_reason": reason})  # fmt: skip


class DeleteService(base.Action):
    """Forget services that will not come back, by the ids that `service list` shows."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("services", nargs="+", metavar="ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.services,
                         lambda service_id: self.api.host_api.service_delete(self.context, service_id))  # fmt: skip
