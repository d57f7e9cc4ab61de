"""Sessions, and the secrets that calls refer to."""

import hmac
import time
from typing import TYPE_CHECKING, Any, NoReturn

from nova_lite.xensim.directory import Entry
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import Call
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.values import timestamp_seconds, timestamp_text

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

IDLE_LIMIT_S = 24 * 3600
REFRESH_S = 600
ANONYMOUS_LIMIT = 400
ORIGINATOR_LIMIT = 500
USER_LIMIT = 500
FAILED_LOGIN_S = 5.0
LOCAL_CALLS = frozenset(
    {
        "session.local_logout",
        "pool.emergency_transition_to_master",
        "pool.emergency_reset_master",
        "host.is_in_emergency_mode",
        "host.local_management_reconfigure",
        "host.shutdown_agent",
    }
)


class Sessions(Noun):
    """Logins, limits, and the check that stands before every call."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.failed_login_s = FAILED_LOGIN_S
        self._local: dict[str, str] = {}  # local sessions: ref -> host

    def check(self, caller: Caller, described: Call | None) -> None:
        """Raise what a call with this session meets: SESSION_INVALID, HOST_IS_SLAVE."""
        if caller.session_ref in self._local and described and described.full_name in LOCAL_CALLS:
            return
        if self.toolstack.joined_to:
            raise ApiError("HOST_IS_SLAVE", self.toolstack.joined_to)
        row = self.db.find("session", caller.session_ref)
        if row is None:
            raise ApiError("SESSION_INVALID", caller.session_ref)
        caller.is_pool_internal = row["pool"]
        caller.is_superuser = row["is_local_superuser"] or row["pool"]
        if not row["pool"] and not caller.is_trusted:
            self._check_master(caller)
        now, last = time.time(), timestamp_seconds(row["last_active"])
        if now - last > IDLE_LIMIT_S:
            self.end(caller.session_ref)
            raise ApiError("SESSION_INVALID", caller.session_ref)
        if now - last > REFRESH_S:
            self.db.set("session", caller.session_ref, last_active=timestamp_text(now))

    def _check_master(self, caller: Caller) -> None:
        """Raise HOST_IS_SLAVE on a host that is not the master, HOST_IN_EMERGENCY_MODE when it has lost its master."""
        if self.toolstack.joined_to:
            raise ApiError("HOST_IS_SLAVE", self.toolstack.joined_to)
        master_ref = self.toolstack.master_ref
        if caller.host_ref == master_ref:
            return
        if master_ref in self.toolstack.dead_hosts:
            raise ApiError("HOST_IN_EMERGENCY_MODE")
        raise ApiError("HOST_IS_SLAVE", self.db.get("host", master_ref, "address"))

    def end(self, session_ref: str) -> None:
        """Destroy a session; whoever waits with it is woken."""
        self.toolstack.events.forget(session_ref)
        self.db.destroy("session", session_ref)

    def end_all(self) -> None:
        """Destroy every session, as a restart of the toolstack does."""
        for row in self.db.rows("session"):
            self.end(row.ref)
        self._local = {}

    def open(
        self, host_ref: str, *, username: str, originator: str = "", is_pool: bool = False, user: Entry | None = None
    ) -> str:
        """Make a session of the local superuser, or of a user of the directory, and return its reference."""
        now = timestamp_text(time.time())
        session_ref = self.db.create(
            "session",
            this_host=host_ref,
            last_active=now,
            validation_time=now,
            pool=is_pool,
            is_local_superuser=user is None,
            auth_user_name="" if is_pool else username,
            originator=originator,
            **self._rights(user),
        )
        self._enforce_limit(ORIGINATOR_LIMIT if originator else ANONYMOUS_LIMIT, originator=originator)
        if user:
            self._enforce_limit(USER_LIMIT, auth_user_name=username)
        return session_ref

    def _rights(self, user: Entry | None) -> dict[str, Any]:
        """Return the fields of a session that say what a user of the directory may do."""
        if user is None:
            return {}
        directory = self.toolstack.people
        subject = directory.subjects_of(user)[0]
        return {
            "subject": subject.ref,
            "auth_user_sid": user.sid,
            "rbac_permissions": directory.permissions_of(user),
        }

    def _enforce_limit(self, limit: int, **alike: str) -> None:
        """Above the limit the least recently used of alike sessions without a pending task go."""
        rows = [row for row in self.db.select("session", **alike) if not row["pool"]]
        excess = len(rows) - limit
        for row in sorted(rows, key=lambda row: (row["last_active"], row.created))[: max(excess, 0)]:
            pending = (self.db.find("task", ref) for ref in row["tasks"])
            if not any(task and task["status"] == "pending" for task in pending):
                self.end(row.ref)

    def is_right(self, username: str, password: str) -> bool:
        """Return whether these are the superuser's credentials."""
        right = hmac.compare_digest(password.encode(), self.toolstack.password.encode())
        return username == self.toolstack.username and right

    def _authenticate(self, caller: Caller, username: str, password: str) -> None:
        if not (caller.is_trusted or self.is_right(username, password)):
            self._refuse(username)

    def _authenticate_user(self, username: str, password: str) -> Entry:
        """Return the directory's user. Raises SESSION_AUTHENTICATION_FAILED, SESSION_AUTHORIZATION_FAILED."""
        user = self.toolstack.people.authenticate(username, password)
        if user is None:
            self._refuse(username)
        if not self.toolstack.people.permissions_of(user):
            raise ApiError("SESSION_AUTHORIZATION_FAILED", username, "Subject is not authorized to access this pool")
        return user

    def _refuse(self, username: str) -> NoReturn:
        self.toolstack.wait(self.failed_login_s, Caller())
        raise ApiError("SESSION_AUTHENTICATION_FAILED", username, "Authentication failure")

    @call("session.login_with_password")
    def login_with_password(self, caller, uname, pwd, _version, originator):
        if not caller.is_trusted:
            self._check_master(caller)
        is_local = caller.is_trusted or uname == self.toolstack.username or not self.toolstack.people.is_enabled()
        if is_local:
            self._authenticate(caller, uname, pwd)
        user = None if is_local else self._authenticate_user(uname, pwd)
        return self.open(caller.host_ref, username=uname, originator=originator, user=user)

    @call("session.slave_local_login_with_password")
    def slave_local_login_with_password(self, caller, uname, pwd):
        self._authenticate(caller, uname, pwd)
        return self._open_local(caller)

    @call("session.slave_local_login")
    def slave_local_login(self, caller, psecret):
        self._check_secret(psecret)
        return self._open_local(caller)

    @call("session.slave_login")
    def slave_login(self, _caller, host, psecret):
        self._check_secret(psecret)
        self.db.row("host", host)
        return self.open(host, username="", is_pool=True)

    def _open_local(self, caller: Caller) -> str:
        session_ref = self.open(caller.host_ref, username=self.toolstack.username)
        self._local[session_ref] = caller.host_ref
        return session_ref

    def _check_secret(self, secret: str) -> None:
        if not hmac.compare_digest(secret.encode(), self.toolstack.pool_secret.encode()):
            raise ApiError("SESSION_AUTHENTICATION_FAILED", "slave_login", "The pool secret is wrong")

    @call("session.logout")
    def logout(self, caller):
        self.end(caller.session_ref)

    @call("session.local_logout")
    def local_logout(self, caller):
        self._local.pop(caller.session_ref, None)
        self.end(caller.session_ref)

    @call("session.change_password")
    def change_password(self, caller, old_pwd, new_pwd):
        if not caller.is_trusted and not self.is_right(self.toolstack.username, old_pwd):
            raise ApiError("CHANGE_PASSWORD_REJECTED", "Authentication failure")
        self.toolstack.password = new_pwd

    @call("session.get_all_subject_identifiers")
    def get_all_subject_identifiers(self, _caller):
        identifiers = (row["auth_user_sid"] for row in self.db.rows("session"))
        return list(dict.fromkeys(identifier for identifier in identifiers if identifier))

    @call("session.logout_subject_identifier")
    def logout_subject_identifier(self, _caller, subject_identifier):
        for row in list(self.db.select("session", auth_user_sid=subject_identifier)):
            if subject_identifier:
                self.end(row.ref)


class Secrets(Noun):
    """Values such as CHAP passwords that device_config names instead of holding."""

    @call("secret.create")
    def create(self, _caller, args):
        return self.db.create("secret", **args)

    @call("secret.introduce")
    def introduce(self, _caller, uuid, value, other_config):
        if uuid in self.db.uuids["secret"]:
            raise internal_error(f"Db_exn.Uniqueness_constraint_violation(secret, uuid, {uuid})")
        return self.db.create("secret", uuid=uuid, value=value, other_config=other_config)

    @call("secret.destroy")
    def destroy(self, _caller, ref):
        self.db.destroy("secret", ref)
