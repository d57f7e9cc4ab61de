"""Sessions with the services of an OpenStack deployment, for the adapters that use one."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from oslo_config import cfg

from nova_lite import exception

Answer = Any  # requests.Response
# What an HTTP status means: status -> makes the exception.
Meanings = dict[int, Callable[[], Exception]]

_TYPES = {"image": "image", "network": "network", "volume": "block-storage"}
_VERSIONS = {"image": "2", "network": "2", "volume": "3"}


class Service:
    """One service (`image`, `network` or `volume`), asked with this deployment's own account.

    Nothing is connected before the first request. Raises ConfigurationError when the options do not suffice.
    """

    def __init__(self, conf: cfg.ConfigOpts, kind: str) -> None:
        self._conf = conf
        self._kind = kind
        self._lock = threading.Lock()
        self._made: Any = None

    def ask(self, method: str, path: str, *, meanings: Meanings | None = None, **options: Any) -> Answer:
        """Send a request; return the answer.

        `meanings` turns statuses into the caller's errors; others raise ServiceUnavailable, in one line and without
        what was sent. Only what changes nothing is sent again when a connection breaks.
        """
        from keystoneauth1 import exceptions

        try:
            answer = self._client().request(
                path, method, raise_exc=False, **options,
                connect_retries=self._conf.openstack.connect_retries if method == "GET" else 0)
        except exceptions.ClientException as error:
            raise exception.ServiceUnavailable(f"The {self._kind} service cannot be used: {_brief(error)}") from error
        if answer.status_code < 400:
            return answer
        answer.close()
        if meaning := (meanings or {}).get(answer.status_code):
            raise meaning()
        raise exception.ServiceUnavailable(
            f"The {self._kind} service answered {answer.status_code} to {method} {path.partition('?')[0]}")

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list that may come in pages."""
        answer = self.ask("GET", path, params=params).json()
        while True:
            yield from answer[key]
            following = answer.get("next") or next(
                (link["href"] for link in answer.get(f"{key}_links", ()) if link["rel"] == "next"), None)
            if not following:
                return
            # The address may come with the version that the endpoint has already; the query is what counts.
            answer = self.ask("GET", f"{path}?{following.partition('?')[2]}").json()

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> Any:
        try:
            from keystoneauth1 import adapter, session
        except ImportError as error:
            raise exception.ConfigurationError(
                reason=f"The {self._kind} service of OpenStack needs keystoneauth1: pip install 'nova_lite[openstack]'"
            ) from error
        options = self._conf.openstack
        endpoint = getattr(options, f"{self._kind}_endpoint")
        if not endpoint and not options.auth_url:
            raise exception.ConfigurationError(reason=f"[openstack] needs auth_url or {self._kind}_endpoint")
        made = session.Session(auth=self._auth(), verify=options.cafile or True, timeout=options.timeout)
        # An address that is given is believed; in the catalogue the version is looked for.
        version = None if endpoint else _VERSIONS[self._kind]
        return adapter.Adapter(made, service_type=_TYPES[self._kind], region_name=options.region_name,
                               interface=options.interface, endpoint_override=endpoint, min_version=version,
                               max_version=version and f"{version}.latest")

    def _auth(self) -> Any:
        from keystoneauth1 import identity, noauth

        options = self._conf.openstack
        if not options.auth_url:
            return noauth.NoAuth()
        return identity.Password(
            auth_url=options.auth_url, username=options.username, password=options.password,
            project_name=options.project_name, user_domain_name=options.user_domain_name,
            project_domain_name=options.project_domain_name)


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
