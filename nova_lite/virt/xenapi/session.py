"""The connection to xapi: calls, tasks, HTTP transfers and dom0 plugins over a bounded pool of sessions."""

import random
import re
import socket
import threading
import uuid as uuidlib
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import XenAPI
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.driver import HypervisorLoginRefused, HypervisorUnavailable
from nova_lite.virt.xenapi import errors, plugins
from nova_lite.virt.xenapi.session_pool import Member, SessionPool
from nova_lite.virt.xenapi.tasks import NO_EVENTS, Tasks
from nova_lite.virt.xenapi.transport import CertificateRefused, Endpoint, TlsPolicy, XapiTransport

LOG = logging.getLogger(__name__)

# Calls that may be repeated when the connection broke and nobody knows whether the first one ran.
REPEATABLE = re.compile(
    r"^\w+\.(get_\w+|set_\w+|add_to_\w+|remove_from_\w+|scan|destroy|plug|unplug|assert_\w+|compute_\w+)$"
    r"|^event\.from$")
# A repeat that finds the work done.
DONE_ALREADY = {
    "destroy": errors.HANDLE_INVALID,
    "plug": "DEVICE_ALREADY_ATTACHED",
    "unplug": "DEVICE_ALREADY_DETACHED",
}
HOST_AWAY = ("HOST_OFFLINE", "CANNOT_CONTACT_HOST", "HOST_NOT_LIVE", "HOST_STILL_BOOTING", "HOST_IN_EMERGENCY_MODE")
# Of those, the ones that name a host, which need not be ours.
ONE_HOST_AWAY = ("HOST_OFFLINE", "CANNOT_CONTACT_HOST", "HOST_NOT_LIVE")
LOGIN_REFUSED = ("SESSION_AUTHENTICATION_FAILED", "SESSION_AUTHORIZATION_FAILED")
LONGEST_BACK_OFF_S = 30
REPEAT_FOR_S = 60


class XenAPISession:
    """A logged-in connection to the xapi at `url` (`http(s)://HOST`, `unix://local` or `unix:///PATH`).

    Connecting happens here: raises HypervisorUnavailable (no answer), HypervisorLoginRefused (wrong user or
    password), both one line with the URL. `concurrent` sessions at most serve short calls, as many again the long
    ones; `timeout` seconds bound connecting and each login, `call_timeout` a reply, `task_timeout` a task.
    A pool member sends us to its master; host_ref and host_uuid stay those of the member, which is found by the address
    in its URL, or else by the uuid that `remembered_host()` knows.
    """

    def __init__(self, url: str, user: str, pw: str, originator: str = "nova_lite", timeout: float = 10,
                 concurrent: int = 5, *, tls: TlsPolicy | None = None, call_timeout: float = 900,
                 task_timeout: float = 3600, task_poll_interval: float = 0.5, plugin_wire: str = "json",
                 remembered_host: Callable[[], str | None] = lambda: None, clock=None):
        self.url = url
        self.is_slave = False
        self.clock = clock or concurrency.Clock()
        self.locks = concurrency.KeyedLocks()
        self.wire = plugins.WIRES[plugin_wire]
        self._plugin_wire = plugin_wire
        self._remembered_host = remembered_host
        self._user = user
        self._password = pw
        self._originator = originator
        self._login_timeout_s = timeout
        self.call_timeout_s = call_timeout
        self.task_timeout_s = task_timeout
        self._tasks = Tasks(self, task_poll_interval)
        self._tls = tls or TlsPolicy()
        self.host_endpoint = Endpoint(url, self._tls)
        self._endpoint = self.host_endpoint
        self._short = SessionPool(self.log_in, concurrent, call_timeout, self.clock)
        self._long = SessionPool(self.log_in, concurrent, task_timeout, self.clock)
        self._console: Member | None = None
        self._console_lock = threading.Lock()
        self.host_ref, self.host_uuid = "", ""  # until we asked
        self.host_ref, self.host_uuid = self._find_host()
        self._software = self.call_xenapi("host.get_software_version", self.host_ref)
        self.product_version = version_tuple(self._software)
        self.product_brand = self._software.get("product_brand")
        self.plugin_version = plugins.installed_version(self)
        self._xsm_sr_check_relaxed: bool | None = None
        LOG.info("Connected to %s %s at %s", self.product_brand, ".".join(map(str, self.product_version)),
                 self.host_endpoint.without_credentials)

    def __repr__(self):
        return f"<XenAPISession {self.host_endpoint.without_credentials}>"

    def elsewhere(self, url: str) -> "XenAPISession":
        """Return a session with another host, as the same user; the caller closes it."""
        return XenAPISession(url, self._user, self._password, self._originator, self._login_timeout_s, 1,
                             tls=self._tls, call_timeout=self.call_timeout_s, task_timeout=self.task_timeout_s,
                             task_poll_interval=self._tasks.poll_interval_s, plugin_wire=self._plugin_wire,
                             clock=self.clock)

    @property
    def master_address(self) -> str:
        """The address, with port where one is given, under which the pool's master is reached."""
        if self._endpoint.socket_path is not None:
            return self.call_xenapi("host.get_address", self.host_ref)
        return urlsplit(self._endpoint.without_credentials).netloc

    def close(self) -> None:
        """Log out every session."""
        self._short.close()
        self._long.close()
        if self._console is not None:
            self._console.log_out()

    # Logging in -----------------------------------------------------------------------------------------------

    def log_in(self) -> Member:
        """Return a session of its own, outside the pools; the caller logs it out. Follows one redirect.

        A master that does not answer any more may have a successor, which our own host knows.
        """
        try:
            return self._log_in_at(self._endpoint)
        except errors.CONNECTION_ERRORS:
            if self._endpoint == self.host_endpoint:
                raise
            self._leave_master()
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, "HOST_IS_SLAVE"):
                raise
            self._move_to_master(failure)
            return self._log_in_at(self._endpoint)
        try:
            return self._log_in_at(self._endpoint)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, "HOST_IS_SLAVE"):
                raise
            self._move_to_master(failure)
        return self._log_in_at(self._endpoint)

    def _log_in_at(self, endpoint: Endpoint) -> Member:
        transport = XapiTransport(endpoint, self._login_timeout_s, self._login_timeout_s)
        client = XenAPI.Session(endpoint.rpc_uri, transport=transport)
        try:
            client.login_with_password(self._user, self._password, "1.0", self._originator)
        except XenAPI.Failure as failure:
            transport.close()
            if errors.is_code(failure, *LOGIN_REFUSED):
                raise HypervisorLoginRefused(url=endpoint.without_credentials, user=self._user,
                                             reason=errors.code_of(failure)) from None
            if errors.is_code(failure, *HOST_AWAY):
                raise ConnectionError(errors.describe(failure)) from None
            raise
        except TimeoutError:
            transport.close()
            raise XenAPI.Failure(["Unable to log in to XenAPI (is the Dom0 disk full?)"]) from None
        except errors.CONNECTION_ERRORS:
            transport.close()
            raise
        return Member(client, transport, endpoint)

    def _move_to_master(self, failure: XenAPI.Failure) -> None:
        self.is_slave = True
        self._endpoint = self._endpoint.on_host(failure.details[1])
        LOG.info("%s is a pool member, using its master %s", self.host_endpoint.without_credentials,
                 self._endpoint.without_credentials)
        self._short.drop_free()
        self._long.drop_free()

    def _leave_master(self) -> None:
        LOG.warning("The master %s does not answer, asking %s for another one", self._endpoint.without_credentials,
                    self.host_endpoint.without_credentials)
        self.is_slave = False
        self._endpoint = self.host_endpoint
        self._short.drop_free()
        self._long.drop_free()

    def _find_host(self) -> tuple[str, str]:
        try:
            with self._short.take() as member:
                handle = member.handle
            if not self.is_slave:
                host_ref = self.call_xenapi("session.get_this_host", handle)
                return host_ref, self.call_xenapi("host.get_uuid", host_ref)
            return self._find_member_host()
        except XenAPI.Failure as failure:
            raise self._unavailable(errors.describe(failure)) from None
        except errors.CONNECTION_ERRORS as error:
            raise self._unavailable(error) from None

    def _find_member_host(self) -> tuple[str, str]:
        address = self.host_endpoint.host
        hosts = self._hosts_at(address) or set().union(*map(self._hosts_at, addresses_of(address)))
        if len(hosts) == 1:
            host_ref = hosts.pop()
            return host_ref, self.call_xenapi("host.get_uuid", host_ref)
        remembered = self._remembered_host()
        if remembered is None:
            raise self._unavailable(f"{len(hosts)} hosts of its pool have the address {address}, expected one")
        return self.call_xenapi("host.get_by_uuid", remembered), remembered

    def _hosts_at(self, address: str | None) -> set[str]:
        pifs = self.call_xenapi("PIF.get_all_records_where", f'field "IP"="{address}"')
        return {pif["host"] for pif in pifs.values()}

    def _unavailable(self, reason) -> HypervisorUnavailable:
        return HypervisorUnavailable(url=self.host_endpoint.without_credentials, reason=str(reason) or repr(reason))

    # Calls ----------------------------------------------------------------------------------------------------

    def get_imported_xenapi(self):
        """Return the XenAPI client module."""
        return XenAPI

    def get_session_id(self) -> str:
        """Return the handle of a session that serves consoles and HTTP paths only; it is a credential."""
        with self._console_lock:
            if self._console is not None:
                try:
                    # The handle may have been collected after a day without use; the client then logs in again.
                    self._console.call("session.get_uuid", (self._console.handle,), self._login_timeout_s)
                except (XenAPI.Failure, *errors.CONNECTION_ERRORS):
                    self._console.close()
                    self._console = None
            if self._console is None:
                self._console = self.log_in()
            return self._console.handle

    def get_xenapi_host(self) -> str:
        """Return the reference of our host."""
        return self.host_ref

    def get_product_version(self) -> tuple[int, ...]:
        return self.product_version

    def call_xenapi(self, method: str, *args) -> Any:
        """Call `Class.method` and return its value.

        API errors raise XenAPI.Failure; a connection that fails raises HypervisorUnavailable, after the calls that
        may be repeated were repeated for a minute.
        """
        return self._call(self._short, method, args, self.call_timeout_s)

    def call_long(self, method: str, *args, timeout_s: float | None = None) -> Any:
        """Like call_xenapi, for a call that may take minutes: does not occupy the sessions of the short ones."""
        return self._call(self._long, method, args, timeout_s or self.task_timeout_s)

    def call_xenapi_request(self, method: str, *args) -> Any:
        """Like call_xenapi, with the parameters as a tuple in args[0]."""
        return self.call_xenapi(method, *args[0])

    def _call(self, pool: SessionPool, method: str, args: tuple, timeout_s: float) -> Any:
        repeat_until = self.clock.monotonic() + REPEAT_FOR_S
        delay_s = 1.0
        repeated = redirected = False
        while True:
            try:
                with pool.take() as member:
                    return member.call(method, args, timeout_s)
            except XenAPI.Failure as failure:
                if repeated and self._is_done_already(failure, method, args):
                    return ""
                if errors.is_code(failure, "HOST_IS_SLAVE") and not redirected:
                    # Refused before it ran, so any call may be repeated at the new master.
                    redirected = True
                    self._move_to_master(failure)
                    continue
                if not self._says_our_host_is_away(failure):
                    raise
                error: Exception = ConnectionError(errors.describe(failure))
            except errors.CONNECTION_ERRORS as broken:
                error = broken
                pool.drop_free()  # they lead to the same place
            if not REPEATABLE.search(method) or isinstance(error, CertificateRefused) \
                    or self.clock.monotonic() + delay_s > repeat_until:
                raise self._unavailable(f"{method}: {error or type(error).__name__}") from error
            LOG.warning("%s at %s failed (%s), trying again", method, self.host_endpoint.without_credentials, error)
            self.clock.sleep(delay_s * random.uniform(0.5, 1))
            delay_s = min(2 * delay_s, LONGEST_BACK_OFF_S)
            repeated = True

    def _is_done_already(self, failure: XenAPI.Failure, method: str, args: tuple) -> bool:
        """Tell whether the failure of a repeated call shows that the first one did its work."""
        cls, _, name = method.rpartition(".")
        if errors.is_code(failure, errors.MAP_DUPLICATE_KEY) and name.startswith("add_to_"):
            ref, key, value = args
            return self.call_xenapi(f"{cls}.get_{name.removeprefix('add_to_')}", ref).get(key) == value
        return errors.is_code(failure, DONE_ALREADY.get(name, ""))

    def _says_our_host_is_away(self, failure: XenAPI.Failure) -> bool:
        if errors.is_code(failure, *ONE_HOST_AWAY):
            return self.host_ref in failure.details[1:]
        return errors.is_code(failure, *HOST_AWAY)

    # Records --------------------------------------------------------------------------------------------------

    def get_rec(self, record_type: str, ref: str) -> dict | None:
        """Return the record, or None when the object is gone."""
        try:
            return self.call_xenapi(f"{record_type}.get_record", ref)
        except XenAPI.Failure as failure:
            if errors.is_code(failure, errors.HANDLE_INVALID):
                return None
            raise

    def records_at_once(self, *named: tuple[str, str]) -> dict[str, dict]:
        """Return {ref: record} of the (class, ref) named that are there, in one call: a stream of events begins so."""
        try:
            batch = self.call_xenapi("event.from", [f"{name}/{ref}" for name, ref in named], "", 0.0)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, *NO_EVENTS):
                raise
            records = {ref: self.get_rec(name, ref) for name, ref in named}
            return {ref: record for ref, record in records.items() if record is not None}
        return {event["ref"]: event["snapshot"] for event in batch["events"] if event["operation"] != "del"}

    def get_all_refs_and_recs(self, record_type: str) -> list[tuple[str, dict]]:
        """Return all objects of the class as (ref, record)."""
        return list(self.call_xenapi(f"{record_type}.get_all_records").items())

    def records_where(self, record_type: str, **fields: str) -> dict[str, dict]:
        """Return {ref: record} of the objects whose columns all have these values (text as in the database)."""
        for value in fields.values():
            if '"' in value:
                raise exception.InvalidInput(reason=f"a quote in {value!r}")
        condition = " and ".join(f'field "{name}"="{value}"' for name, value in fields.items())
        return self.call_xenapi(f"{record_type}.get_all_records_where", condition)

    def put_in_map(self, field: str, ref: str, key: str, value: str, is_new: bool = False) -> None:
        """Set an entry of a map such as `VM.other_config`, in place of the one with this key unless that is new."""
        cls, _, name = field.partition(".")
        for is_last_try in (False, True):
            if is_last_try or not is_new:
                self.call_xenapi(f"{cls}.remove_from_{name}", ref, key)
            try:
                self.call_xenapi(f"{cls}.add_to_{name}", ref, key, value)
                return
            except XenAPI.Failure as failure:
                if is_last_try or not errors.is_code(failure, errors.MAP_DUPLICATE_KEY):
                    raise  # else somebody was quicker

    # Tasks ----------------------------------------------------------------------------------------------------

    def custom_task(self, label: str, desc: str = "") -> AbstractContextManager[str]:
        """Lend a task of our own, for HTTP transfers; destroyed at the end."""
        # Names the host, for the next run of this service to end it if this one cannot.
        return self._tasks.lent(f"{self._originator}-{label}", f"{desc}, for host {self.host_uuid}")

    def call_task(self, method: str, *args, timeout_s: float | None = None,
                  progress: Callable[[float], None] | None = None,
                  started: Callable[[str], None] | None = None) -> str:
        """Run `Class.method` as a task, wait for its end and return its result text ('' for none).

        started(task) is told the task, progress(0.0 … 1.0) how far it is. Raises what the operation failed with,
        TaskTimeout after the deadline (the task is then cancelled), TaskLost when the host forgot it.
        """
        return self._tasks.run(method, args, timeout_s or self.task_timeout_s, progress, started)

    def wait_for_task(self, task_ref: str, timeout_s: float | None = None, label: str = "task",
                      progress: Callable[[float], None] | None = None) -> str:
        """Wait for a task and return its result text; errors as in call_task."""
        return self._tasks.wait(task_ref, timeout_s or self.task_timeout_s, label, progress)

    # HTTP -----------------------------------------------------------------------------------------------------

    @contextmanager
    def http_connection(self, timeout_s: float | None = None):
        """Lend an HTTP(S) connection to our host, for xapi's file handlers."""
        connection = self.host_endpoint.connection(timeout_s or self.call_timeout_s)
        try:
            yield connection
        finally:
            connection.close()

    def http_handle(self) -> str:
        """Return the handle of a session for xapi's file handlers; it stays one of the pool's."""
        with self._short.take() as member:
            return member.handle

    def fresh_http_handle(self) -> str:
        """Like http_handle, certain not to have expired."""
        with self._short.take() as member:
            member.call("session.get_uuid", (member.handle,), self.call_timeout_s)
            return member.handle

    # Plugins --------------------------------------------------------------------------------------------------

    def call_plugin(self, plugin: str, fn: str, args: dict[str, str]) -> str:
        """Run `fn` of a dom0 plugin on our host and return its text."""
        name = plugin if plugin.endswith(".py") else f"{plugin}.py"
        arguments = {**args, "host_uuid": self.host_uuid}
        with plugins.explained_failures(self.wire.required):
            return self.call_long("host.call_plugin", self.host_ref, name, fn, arguments,
                                  timeout_s=self.call_timeout_s)

    def call_plugin_serialized(self, plugin: str, fn: str, *args, **kwargs) -> Any:
        """Like call_plugin, with any JSON-serialisable arguments and result."""
        packed = {"params": plugins.dumps(args, kwargs, self.wire)}
        return plugins.loads(self.call_plugin(plugin, fn, packed), self.wire)

    def call_plugin_serialized_with_retry(self, plugin, fn, num_retries, callback, retry_cb=None, *args, **kwargs):
        """Like call_plugin_serialized, up to num_retries + 1 times while the failure is a passing one.

        callback(kwargs) runs before every attempt and may change kwargs; retry_cb(exc=...) after a passing failure.
        Raises plugins.PluginRetriesExceeded.
        """
        delay_s = 0.5
        for attempt in range(num_retries + 1):
            if attempt:
                self.clock.sleep(delay_s)
                delay_s = min(2 * delay_s, 15)
            callback(kwargs)
            try:
                return self.call_plugin_serialized(plugin, fn, *args, **kwargs)
            except (XenAPI.Failure, HypervisorUnavailable) as error:
                if not plugins.is_passing(error):
                    raise
                LOG.warning("%s.%s failed, attempt %d of %d: %s", plugin, fn, attempt + 1, num_retries + 1, error)
                if retry_cb is not None:
                    retry_cb(exc=error)
        raise plugins.PluginRetriesExceeded(num_retries=num_retries)

    def is_xsm_sr_check_relaxed(self) -> bool:
        """Tell whether the host lets VMs with iSCSI repositories migrate with their disks; asked once."""
        if self._xsm_sr_check_relaxed is None:
            try:
                said = self.call_plugin("config_file", "get_val", {"key": "relax-xsm-sr-check"})
            except XenAPI.Failure as failure:
                LOG.info("relax-xsm-sr-check is not known, going by the version: %s", errors.last_line(failure))
                said = ""
            platform = self._software.get("platform_version") or "0"
            self._xsm_sr_check_relaxed = said.lower() == "true" if said else numbers_of(platform) >= (2, 1)
        return self._xsm_sr_check_relaxed

    def new_request_id(self) -> str:
        return str(uuidlib.uuid4())


def addresses_of(name: str | None) -> set[str]:
    """Return the addresses of a host name; none for one that nobody knows."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def version_tuple(software: dict[str, str]) -> tuple[int, ...]:
    """Return the product's version as ints; a suffix such as `8.3.0-beta` ends its number."""
    return numbers_of(software.get("product_version") or software.get("platform_version") or "0.0.0")


def numbers_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a dotted version."""
    return tuple(int(re.match(r"\d*", part).group() or 0) for part in text.split("."))
