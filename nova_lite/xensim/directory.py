"""External authentication: a directory of users and groups, the subjects taken from it, and their logins.

The directory is a stand-in for an Active Directory domain: the control interface says who is in it. XenServer's rules
begin above it: a pool joins a domain, subjects are given roles, and a login looks up what its user and groups may do.
"""

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

AUTH_TYPES = frozenset({"AD"})


@dataclass
class Entry:
    """A user, or a group, which has no password."""

    name: str
    sid: str
    password: str = field(default="", repr=False)
    groups: list[str] = field(default_factory=list)  # identifiers of the groups it is in, nested ones included


class Directory(Noun):
    """Domains by name, each {lower-case name: entry}; and the auth, subject and external authentication calls."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.domains: dict[str, dict[str, Entry]] = {}

    # looking up

    def _joined(self) -> dict[str, Entry] | None:
        """Return the entries of the domain that the pool is in, None when it is in none."""
        host = self.db.row("host", self.toolstack.master_ref)
        if not host["external_auth_type"]:
            return None
        return self.domains.get(host["external_auth_service_name"], {})

    def _entries(self) -> dict[str, Entry]:
        entries = self._joined()
        if entries is None:
            raise ApiError("AUTH_IS_DISABLED")
        return entries

    @staticmethod
    def _plain(name: str) -> str:
        """Return the bare name of DOMAIN\\name or name@domain."""
        return name.rpartition("\\")[2].partition("@")[0].lower()

    def _by_sid(self, sid: str) -> Entry:
        for entry in self._entries().values():
            if entry.sid == sid:
                return entry
        raise ApiError("SUBJECT_CANNOT_BE_RESOLVED")

    def is_enabled(self) -> bool:
        """Return whether people of a directory may log in."""
        return self._joined() is not None

    def authenticate(self, username: str, password: str) -> Entry | None:
        """Return the user with this name and password, None when there is none."""
        entry = (self._joined() or {}).get(self._plain(username))
        if entry is None or not entry.password:
            return None
        return entry if hmac.compare_digest(entry.password.encode(), password.encode()) else None

    def subjects_of(self, entry: Entry) -> list[Row]:
        """Return the subjects that a user is, himself first, then by his groups."""
        found = {row["subject_identifier"]: row for row in self.db.rows("subject")}
        return [found[sid] for sid in (entry.sid, *entry.groups) if sid in found]

    @call("auth.get_subject_identifier")
    def get_subject_identifier(self, _caller, name):
        entry = self._entries().get(self._plain(name))
        if entry is None:
            raise ApiError("SUBJECT_CANNOT_BE_RESOLVED")
        return entry.sid

    @call("auth.get_subject_information_from_identifier")
    def get_subject_information_from_identifier(self, _caller, sid):
        entry = self._by_sid(sid)
        domain = self.db.get("host", self.toolstack.master_ref, "external_auth_service_name")
        kind = {"subject-is-group": str(not entry.password).lower(), "subject-sid": entry.sid}
        return {"subject-name": f"{domain}\\{entry.name}", "subject-upn": f"{entry.name}@{domain}", **kind}

    @call("auth.get_group_membership")
    def get_group_membership(self, _caller, sid):
        return list(self._by_sid(sid).groups)

    # subjects

    @call("subject.create")
    def create_subject(self, _caller, args):
        if any(self.db.select("subject", subject_identifier=args.get("subject_identifier", ""))):
            raise ApiError("SUBJECT_ALREADY_EXISTS")
        return self.db.create("subject", **args)

    @call("subject.destroy")
    def destroy_subject(self, _caller, ref):
        self.db.destroy("subject", ref)

    @call("subject.add_to_roles")
    def add_to_roles(self, _caller, ref, role):
        roles = self.db.get("subject", ref, "roles")
        if self.db.find("role", role) is None:
            raise ApiError("ROLE_NOT_FOUND")
        if role in roles:
            raise ApiError("ROLE_ALREADY_EXISTS")
        self.db.set("subject", ref, roles=[*roles, role])
        self._renew_permissions()

    @call("subject.remove_from_roles")
    def remove_from_roles(self, _caller, ref, role):
        roles = self.db.get("subject", ref, "roles")
        if role not in roles:
            raise ApiError("ROLE_NOT_FOUND")
        self.db.set("subject", ref, roles=[each for each in roles if each != role])
        self._renew_permissions()

    def permissions_of(self, entry: Entry) -> list[str]:
        """Return the names of the calls that a user may make."""
        refs = [ref for subject in self.subjects_of(entry) for ref in subject["roles"]]
        return self.toolstack.roles.permissions_of(refs)

    def _renew_permissions(self) -> None:
        """Let open sessions have what their users' roles now allow."""
        by_sid = {entry.sid: entry for entry in (self._joined() or {}).values()}
        for session in self.db.rows("session"):
            entry = by_sid.get(session["auth_user_sid"])
            if entry:
                self.db.set("session", session.ref, rbac_permissions=self.permissions_of(entry))

    @call("subject.get_permissions_name_label")
    def get_permissions_name_label(self, _caller, ref):
        return self.toolstack.roles.permissions_of(self.db.get("subject", ref, "roles"))

    # joining and leaving a domain

    def _enable(self, host_ref: str, config: dict[str, str], service_name: str, auth_type: str, prefix: str) -> None:
        """Let one host join the domain. Errors name the host where they speak for the pool (prefix POOL_)."""
        host = self.db.row("host", host_ref)
        where = [host_ref] if prefix else []
        if host["external_auth_type"]:
            current = [] if prefix else [host["external_auth_type"], host["external_auth_service_name"]]
            raise ApiError(f"{prefix}AUTH_ALREADY_ENABLED", *where, *current)
        if auth_type not in AUTH_TYPES:
            raise ApiError("AUTH_UNKNOWN_TYPE", auth_type)
        entries = self.domains.get(service_name)
        if entries is None:
            text = f"The domain {service_name} cannot be found"
            raise ApiError(f"{prefix}AUTH_ENABLE_FAILED_DOMAIN_LOOKUP_FAILED", *where, text)
        administrator = entries.get(self._plain(config.get("user", "")))
        if administrator is None or administrator.password != config.get("pass", ""):
            raise ApiError(f"{prefix}AUTH_ENABLE_FAILED_WRONG_CREDENTIALS", *where, "The credentials are wrong")
        kept = {key: value for key, value in config.items() if key not in ("user", "pass")}
        self.db.set(
            "host",
            host_ref,
            external_auth_type=auth_type,
            external_auth_service_name=service_name,
            external_auth_configuration={"domain": service_name, "user": administrator.name, **kept},
        )

    def _disable(self, host_ref: str) -> None:
        nothing = {"external_auth_type": "", "external_auth_service_name": "", "external_auth_configuration": {}}
        self.db.set("host", host_ref, **nothing)

    def _end_sessions(self) -> None:
        for session in list(self.db.select("session", is_local_superuser=False, pool=False)):
            self.toolstack.sessions.end(session.ref)

    @call("host.enable_external_auth")
    def enable_on_host(self, _caller, ref, config, service_name, auth_type):
        self._enable(ref, config, service_name, auth_type, "")

    @call("host.disable_external_auth")
    def disable_on_host(self, _caller, ref, _config, _force):
        self._disable(ref)
        if ref == self.toolstack.master_ref:
            self._end_sessions()

    @call("pool.enable_external_auth")
    def enable(self, _caller, _ref, config, service_name, auth_type):
        done = []
        try:
            for host in self.db.rows("host"):
                self._enable(host.ref, config, service_name, auth_type, "POOL_")
                done.append(host.ref)
        except ApiError:
            for host_ref in done:
                self._disable(host_ref)
            raise

    @call("pool.disable_external_auth")
    def disable(self, _caller, _ref, _config):
        for host in self.db.rows("host"):
            self._disable(host.ref)
        self._end_sessions()

    @call("pool.detect_nonhomogeneous_external_auth")
    def detect_nonhomogeneous(self, _caller, ref):
        self.db.row("pool", ref)
        master = self.db.row("host", self.toolstack.master_ref)
        for host in self.db.rows("host"):
            if any(host[field] != master[field] for field in ("external_auth_type", "external_auth_service_name")):
                text = f"{host['name_label']} and the pool's coordinator are not in the same domain"
                self.toolstack.messages.add("AD_POOL_EXTERNAL_AUTH_NON_HOMOGENEOUS", 4, "Host", host["uuid"], text)

    @call("host.external_auth_set_ldaps")
    def set_ldaps_on_host(self, _caller, ref, ldaps, _force):
        host = self.db.row("host", ref)
        if not host["external_auth_type"]:
            raise ApiError("AUTH_IS_DISABLED")
        config = {**host["external_auth_configuration"], "ldaps": str(ldaps).lower()}
        self.db.set("host", ref, external_auth_configuration=config)

    @call("pool.external_auth_set_ldaps")
    def set_ldaps(self, caller, _ref, ldaps, force):
        for host in self.db.rows("host"):
            self.set_ldaps_on_host(caller, host.ref, ldaps, force)
