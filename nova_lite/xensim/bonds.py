"""Bonds and tunnels: interfaces made of interfaces."""

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call

IP_FIELDS = ("ip_configuration_mode", "IP", "netmask", "gateway", "DNS", "management")


class Bonds(Noun):
    @call("Bond.create")
    def create(self, _caller, network_ref, member_refs, mac, mode, properties):
        self.db.row("network", network_ref)
        members = [self.db.row("PIF", ref) for ref in member_refs]
        self._check_members(members)
        first = next((member for member in members if member["management"]), members[0])
        host_ref = first["host"]
        taken = {pif["device"] for pif in self.db.select("PIF", host=host_ref)}
        device = next(name for number in range(1000) if (name := f"bond{number}") not in taken)
        inherited = {field: first[field] for field in IP_FIELDS}
        master_ref = self.db.create(
            "PIF",
            device=device,
            network=network_ref,
            host=host_ref,
            MAC=mac.lower() or first["MAC"],
            MTU=self.db.get("network", network_ref, "MTU"),
            VLAN=-1,
            metrics=first["metrics"],
            currently_attached=True,
            **inherited,
        )
        bond_ref = self.db.create(
            "Bond",
            master=master_ref,
            primary_slave=first.ref,
            mode=mode,
            properties=properties,
            links_up=len(members),
            auto_update_mac=not mac,
        )
        for member in members:
            self.db.set("PIF", member.ref, bond_slave_of=bond_ref, currently_attached=True, management=False)
            if not is_null(member["network"]):
                self._move_vifs(member["network"], network_ref)
        return bond_ref

    def _check_members(self, members: list[Row]) -> None:
        """Raise why these interfaces cannot be bonded."""
        if len(members) < 2:
            raise ApiError("PIF_BOND_NEEDS_MORE_MEMBERS")
        if len({member["host"] for member in members}) > 1:
            raise ApiError("PIF_CANNOT_BOND_CROSS_HOST")
        for member in members:
            if not is_null(member["bond_slave_of"]):
                raise ApiError("PIF_ALREADY_BONDED", member.ref)
            if member["VLAN"] != -1:
                raise ApiError("PIF_IS_VLAN", member.ref)
        if sum(member["ip_configuration_mode"] != "None" for member in members) > 1:
            raise ApiError("PIF_BOND_MORE_THAN_ONE_IP")

    def _move_vifs(self, from_ref: str, to_ref: str) -> None:
        for vif_ref in self.db.get("network", from_ref, "VIFs"):
            self.db.set("VIF", vif_ref, network=to_ref)

    @call("Bond.destroy")
    def destroy(self, _caller, ref):
        bond = self.db.row("Bond", ref)
        master, primary_ref = self.db.row("PIF", bond["master"]), bond["primary_slave"]
        if master["VLAN_slave_of"]:
            raise ApiError("PIF_VLAN_STILL_EXISTS", master.ref)
        self._move_vifs(master["network"], self.db.get("PIF", primary_ref, "network"))
        inherited = {field: master[field] for field in IP_FIELDS}
        for member_ref in bond["slaves"]:
            self.db.set("PIF", member_ref, bond_slave_of=NULL)
        self.db.set("PIF", primary_ref, **inherited)
        self.db.destroy("Bond", ref)
        self.db.destroy("PIF", master.ref)

    @call("Bond.set_property")
    def set_property(self, _caller, ref, name, value):
        self.db.set("Bond", ref, properties={**self.db.get("Bond", ref, "properties"), name: value})

    @call("tunnel.create")
    def create_tunnel(self, _caller, transport_ref, network_ref, protocol):
        transport = self.db.row("PIF", transport_ref)
        if transport["ip_configuration_mode"] == "None":
            raise ApiError("TRANSPORT_PIF_NOT_CONFIGURED", transport_ref)
        if transport["tunnel_access_PIF_of"]:
            raise ApiError("IS_TUNNEL_ACCESS_PIF", transport_ref)
        taken = {pif["device"] for pif in self.db.select("PIF", host=transport["host"])}
        access_ref = self.db.create(
            "PIF",
            device=next(name for number in range(1000) if (name := f"tunnel{number}") not in taken),
            network=network_ref,
            host=transport["host"],
            MAC=transport["MAC"],
            MTU=self.db.get("network", network_ref, "MTU"),
            VLAN=-1,
            metrics=transport["metrics"],
        )
        return self.db.create("tunnel", access_PIF=access_ref, transport_PIF=transport_ref, protocol=protocol)

    @call("tunnel.destroy")
    def destroy_tunnel(self, _caller, ref):
        access_ref = self.db.get("tunnel", ref, "access_PIF")
        self.db.destroy("tunnel", ref)
        self.db.destroy("PIF", access_ref)
