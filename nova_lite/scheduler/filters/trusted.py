"""Hosts that an attestation service trusts (flavors with the extra spec `trust:trusted_host`)."""

import contextlib
import datetime
import http.client
import json
import ssl
from typing import Any

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_lite.context import Services
from nova_lite.scheduler.filters.base import BaseHostFilter
from nova_lite.scheduler.host_manager import HostState

LOG = logging.getLogger(__name__)

REQUIREMENT = "trust:trusted_host"
UNKNOWN = "unknown"
_TIMEOUT_S = 10


class _AttestationService:
    """Asks the service how far hosts are trusted: POST <api_url>/PollHosts, authenticated by a secret blob."""

    def __init__(self, options: Any) -> None:
        self._options = options

    def poll(self, hosts: list[str]) -> list[dict[str, Any]]:
        """Return [{'host_name', 'trust_lvl', 'vtime'}]; [] when the service cannot be asked, which is logged."""
        options = self._options
        if not options.attestation_server:
            LOG.error("[trusted_computing] attestation_server is not set: no host is trusted")
            return []
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if options.attestation_auth_blob:
            headers["x-auth-blob"] = options.attestation_auth_blob
        try:
            tls = ssl.create_default_context(cafile=options.attestation_server_ca_file)
            with contextlib.closing(http.client.HTTPSConnection(
                    options.attestation_server, options.attestation_port, timeout=_TIMEOUT_S,
                    context=tls)) as connection:
                connection.request("POST", f"{options.attestation_api_url}/PollHosts",
                                   json.dumps({"hosts": hosts}), headers)
                response = connection.getresponse()
                if response.status != http.client.OK:
                    LOG.error("The attestation service answers %d", response.status)
                    return []
                return json.loads(response.read())["hosts"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            LOG.error("The attestation service does not answer: %s", error)
            return []


class TrustedFilter(BaseHostFilter):
    """The attestation service gives the host the level of trust that the flavor asks for."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._options = services.conf.trusted_computing
        self._service = _AttestationService(self._options)
        self._levels: dict[str, tuple[str, datetime.datetime]] = {}  # host: (level, until when)

    def filter_all(self, states: list[HostState], filter_properties: dict[str, Any]) -> list[HostState]:
        wanted = (filter_properties["instance_type"].get("extra_specs") or {}).get(REQUIREMENT)
        if not wanted:
            return states
        self._refresh([state.host for state in states])
        return [state for state in states if self._levels.get(state.host, (UNKNOWN, None))[0] == wanted]

    def _refresh(self, hosts: list[str]) -> None:
        """Ask about the hosts whose answer is too old; a host without an answer is not trusted."""
        now = self.services.clock.utcnow()
        old = sorted({host for host in hosts if host not in self._levels or self._levels[host][1] <= now})
        if not old:
            return
        for host in old:
            self._levels.pop(host, None)
        for answer in self._service.poll(old):
            verified = _moment(answer.get("vtime"), now)
            until = verified + datetime.timedelta(seconds=self._options.attestation_auth_timeout)
            if answer.get("host_name") in old and until > now:
                self._levels[answer["host_name"]] = (str(answer.get("trust_lvl")), until)


def _moment(text: Any, default: datetime.datetime) -> datetime.datetime:
    """Return the time of an answer; a service that tells none has just verified."""
    try:
        return timeutils.normalize_time(timeutils.parse_isotime(text)).replace(tzinfo=datetime.UTC)
    except (ValueError, TypeError, AttributeError):
        return default
