"""Updates of the hosts' software. Repositories are of a class outside the simulated core: a pool here has none."""

import urllib.parse
from typing import NoReturn

from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call

DAYS = {"daily": range(1), "weekly": range(7)}


class Updates(Noun):
    @call("pool.sync_updates", operation="sync_updates")
    def sync(self, _caller, _ref, _force, _token, _token_id, _username, _password):
        raise ApiError("NO_REPOSITORY_ENABLED")

    @call("host.apply_updates")
    def apply(self, _caller, ref, _hash):
        self.db.row("host", ref)
        raise ApiError("NO_REPOSITORY_ENABLED")

    @call("pool.set_repositories", operation="configure_repositories")
    def set_repositories(self, _caller, _ref, value):
        for repository in value:
            self._unknown(repository)

    @call("pool.add_repository", operation="configure_repositories")
    @call("pool.remove_repository", operation="configure_repositories")
    def change_repositories(self, _caller, _ref, value):
        self._unknown(value)

    @staticmethod
    def _unknown(ref: str) -> NoReturn:
        raise ApiError("HANDLE_INVALID", "Repository", ref)

    @call("pool.check_update_readiness")
    def check_readiness(self, caller, ref, requires_reboot):
        """Return what stands in the way of an update, each as an error description."""
        reasons = [["HA_IS_ENABLED"]] if self.db.get("pool", ref, "ha_enabled") else []
        for host in self.db.rows("host"):
            if not self.db.get("host_metrics", host["metrics"], "live"):
                reasons.append(["HOST_NOT_LIVE", host.ref])
            elif requires_reboot:
                reasons += self.toolstack.hosts.get_vms_which_prevent_evacuation(caller, host.ref).values()
        return reasons

    @call("pool.configure_repository_proxy")
    def configure_proxy(self, caller, ref, url, username, password):
        address = urllib.parse.urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/"):
            raise ApiError("INVALID_REPOSITORY_PROXY_URL", url)
        if bool(username) != bool(password) or "\n" in username + password:
            raise ApiError("INVALID_REPOSITORY_PROXY_CREDENTIAL")
        self.disable_proxy(caller, ref)
        secret_ref = self.db.create("secret", value=password) if password else NULL
        self.db.set(
            "pool",
            ref,
            repository_proxy_url=url,
            repository_proxy_username=username,
            repository_proxy_password=secret_ref,
        )

    @call("pool.disable_repository_proxy")
    def disable_proxy(self, _caller, ref):
        secret_ref = self.db.get("pool", ref, "repository_proxy_password")
        nothing = {"repository_proxy_url": "", "repository_proxy_username": "", "repository_proxy_password": NULL}
        self.db.set("pool", ref, **nothing)
        if not is_null(secret_ref) and self.db.find("secret", secret_ref):
            self.db.destroy("secret", secret_ref)

    @call("pool.configure_update_sync")
    def configure_sync(self, _caller, ref, frequency, day):
        if day not in DAYS[frequency]:
            raise ApiError("INVALID_UPDATE_SYNC_DAY", str(day))
        self.db.set("pool", ref, update_sync_frequency=frequency, update_sync_day=day)

    @call("pool.set_update_sync_enabled")
    def set_sync_enabled(self, _caller, ref, value):
        if value and not self.db.get("pool", ref, "repositories"):
            raise ApiError("NO_REPOSITORIES_CONFIGURED")
        self.db.set("pool", ref, update_sync_enabled=value)

    @call("host.emergency_clear_mandatory_guidance")
    def clear_guidance(self, caller):
        self.db.set("host", caller.host_ref, pending_guidances=[])
