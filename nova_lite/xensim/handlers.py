"""What the HTTP paths do: RPC, raw disks, and the simulator's own control path."""

import base64
import binascii
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nova_lite.xensim.call_log import shortened
from nova_lite.xensim.errors import ApiError, DuplicateMember, MalformedRequest, internal_error
from nova_lite.xensim.faults import Fault, Occasion
from nova_lite.xensim.http import DropConnection, HttpError, Request
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.remote import PATH as CONTROL_PATH
from nova_lite.xensim.storage_rules import active_vbds
from nova_lite.xensim.uploads import Upload, receive
from nova_lite.xensim.vhd import VhdError, stream_vhd
from nova_lite.xensim.wire import XmlWire, parse_json_request
from nova_lite.xensim.xmlrpc import parse_request, text_value

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

BODY_LIMIT = 300 * 1024
CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "X-Requested-With"}
Handler = Callable[[Request, Caller], None]
# The role that a data handler needs, by its label.
HANDLER_ROLES = {
    "rrd_updates": "read-only",
    "rrd": "read-only",
    "console": "vm-operator",
    "import_raw_vdi": "vm-admin",
    "export_raw_vdi": "vm-admin",
    "import": "vm-admin",
    "export": "vm-admin",
    "blob": "read-only",
}


class Router:
    """Finds the handler by method and longest prefix; one router for each host."""

    def __init__(self, toolstack: "Toolstack", host_ref: str):
        self._toolstack = toolstack
        self._host_ref = host_ref
        self._routes: dict[str, list[tuple[str, Handler]]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        routes = self._routes.setdefault(method, [])
        routes.append((path, handler))
        routes.sort(key=lambda route: -len(route[0]))

    def handle(self, request: Request) -> None:
        """Serve one request. Raises HttpError, DropConnection."""
        request.connection.is_control = request.path.startswith(CONTROL_PATH)
        if not request.connection.is_control and self._toolstack.faults.is_silent(self._host_ref):
            raise DropConnection
        routes = self._routes.get(request.method)
        if routes is None:
            raise HttpError(501, f"no handler for {request.method}")
        for path, handler in routes:
            if request.path.startswith(path):
                caller = Caller(host_ref=self._host_ref, is_trusted=request.connection.is_trusted)
                handler(request, caller)
                return
        raise HttpError(404, "no such resource")


class Rpc:
    """XML-RPC on every unknown path, JSON-RPC on /jsonrpc and /json."""

    def __init__(self, toolstack: "Toolstack"):
        self._dispatcher = toolstack.dispatcher
        self._xml = XmlWire(toolstack.schema)

    def register(self, router: Router) -> None:
        router.add("POST", "/", self.xml)
        for path in ("/json", "/jsonrpc"):
            router.add("POST", path, self.json)
            router.add("OPTIONS", path, self.preflight)
        router.add("OPTIONS", "/", self.preflight)
        router.add("GET", "/", self.page)

    def xml(self, request: Request, caller: Caller) -> None:
        body = request.body(BODY_LIMIT)
        try:
            body.decode()
        except UnicodeDecodeError:
            text = body.decode(errors="replace")[:200]
            reply = self._xml.failure(["INVALID_VALUE", "Invalid UTF-8 string in parameter", text])
        else:
            try:
                name, parameters = parse_request(body)
            except MalformedRequest as error:
                raise HttpError(500, str(error)) from None
            except DuplicateMember as error:
                reply = self._xml.failure(error.description)
            else:
                reply = self._dispatcher.answer(name, parameters, self._xml, caller)
        request.reply(200, reply, {"Content-Type": "text/xml", **CORS})

    def json(self, request: Request, caller: Caller) -> None:
        try:
            wire, name, parameters, duplicate = parse_json_request(request.body(BODY_LIMIT))
        except MalformedRequest as error:
            raise HttpError(500, str(error)) from None
        if duplicate is not None:
            reply = wire.failure(DuplicateMember(duplicate).description)
        else:
            reply = self._dispatcher.answer(name, parameters, wire, caller)
        request.reply(200, reply, {"Content-Type": "application/json", **CORS})

    def preflight(self, request: Request, _caller: Caller) -> None:
        request.reply(200, b"", {**CORS, "Access-Control-Allow-Methods": "POST, OPTIONS"})

    def page(self, request: Request, _caller: Caller) -> None:
        if request.path not in ("/", "/index.html"):
            raise HttpError(404, "no such resource")
        page = b"<html><head><title>XenServer</title></head><body>A simulated XenServer.</body></html>"
        request.reply(200, page, {"Content-Type": "text/html"})


class Door:
    """Credentials and tasks of the data handlers."""

    def __init__(self, toolstack: "Toolstack"):
        self._toolstack = toolstack
        self._db = toolstack.db

    def authenticate(self, request: Request, caller: Caller, label: str) -> None:
        """Give the caller a session from cookie, query or Basic credentials. Raises HttpError 401. Expects the lock."""
        session_ref = request.query.get("session_id") or request.cookies.get("session_id", "")
        secret = request.cookies.get("pool_secret", "")
        if session_ref:
            row = self._db.find("session", session_ref)
            if row is None:
                raise self.refusal(label)
            caller.session_ref = session_ref
            if not self._toolstack.roles.allows(session_ref, HANDLER_ROLES.get(label, "pool-operator")):
                raise HttpError(403, "the session's roles do not allow this")
        elif not (caller.is_trusted or self.has_password(request) or secret == self._toolstack.pool_secret):
            raise self.refusal(label)
        else:
            caller.session_ref = self._toolstack.sessions.open(caller.host_ref, username=self._toolstack.username)

    @staticmethod
    def refusal(label: str) -> HttpError:
        return HttpError(401, "credentials are required", {"WWW-Authenticate": f'Basic realm="{label}"'})

    def has_password(self, request: Request) -> bool:
        kind, _, encoded = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return self._toolstack.sessions.is_right(username, password)

    def task(self, request: Request, caller: Caller, label: str) -> str:
        """Return the task that the handler drives: the client's, or one of its own. Expects the lock."""
        task_ref = request.query.get("task_id", "")
        if task_ref:
            row = self._db.find("task", task_ref)
            if row is None:
                by_uuid = self._db.uuids["task"].get(task_ref)
                if by_uuid is None:
                    raise HttpError(404, "no such task")
                task_ref = by_uuid
            self._db.set("task", task_ref, allowed_operations=["cancel"])
            return task_ref
        return self._toolstack.tasks.begin(label, caller)

    @contextlib.contextmanager
    def logged(self, name: str, request: Request) -> Iterator[None]:
        """Count and log the request as a call of this name, its query masked."""
        faults, result = self._toolstack.faults, "no reply"
        started = faults.record(name)
        try:
            yield
            result = "Success"
        except HttpError as error:
            result = str(error.status)
            raise
        finally:
            faults.log.end(name, [shortened(request.query)], started, result)

    def meet(self, name: str, ref: str, caller: Caller) -> list[Fault]:
        """Return the faults that this request meets; what comes before any effect has happened. Expects the lock."""
        faults = self._toolstack.faults.strike(Occasion(name, (ref,), (caller.session_ref,)))
        for fault in faults:
            if fault.kind == "error":
                raise ApiError(*fault.error)
            if fault.kind == "drop":
                raise DropConnection
        self._toolstack.linger(sum(fault.seconds for fault in faults if fault.kind == "delay"), caller)
        return faults

    def find(self, class_name: str, name: str) -> str:
        """Return the reference of an object given by reference or uuid. Raises HttpError 404."""
        if self._db.find(class_name, name):
            return name
        ref = self._db.uuids[class_name].get(name)
        if ref is None:
            raise HttpError(404, f"no such {class_name}")
        return ref


class RawDisks:
    """PUT /import_raw_vdi and GET /export_raw_vdi."""

    def __init__(self, toolstack: "Toolstack", door: Door):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._door = door

    def register(self, router: Router) -> None:
        router.add("PUT", "/import_raw_vdi", self.put)
        router.add("GET", "/export_raw_vdi", self.get)

    # import

    def put(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        with self._door.logged("PUT /import_raw_vdi", request), self._db.lock:
            self._door.authenticate(request, caller, "import_raw_vdi")
            caller.task_ref = self._door.task(request, caller, "Importing raw VDI")
            try:
                vdi_ref = self._target(request)
                self._check_format(request)
                faults = self._door.meet("PUT /import_raw_vdi", vdi_ref, caller)
                vdi = self._db.row("VDI", vdi_ref)
                error = self._writable_error(vdi)
                if error:
                    raise error
            except (ApiError, HttpError) as error:
                description = error.description if isinstance(error, ApiError) else ["INTERNAL_ERROR", error.text]
                self._toolstack.tasks.fail(caller.task_ref, description)
                raise error if isinstance(error, HttpError) else HttpError(404, " ".join(description)) from None
            self._reply_and_receive(request, caller, vdi_ref, {fault.kind: fault for fault in faults})

    def _reply_and_receive(self, request: Request, caller: Caller, vdi_ref: str, faults: dict[str, Fault]) -> None:
        with self._toolstack.unlocked():
            if "lose_reply" not in faults:
                request.send_head(200, {"task-id": caller.task_ref, "Content-Type": "text/html"})
            self._receive(request, caller, vdi_ref, faults.get("error_after"))

    def _target(self, request: Request) -> str:
        query = request.query
        if query.get("vdi"):
            return self._door.find("VDI", query["vdi"])
        sr_name = query.get("sr_id") or query.get("sr_uuid")
        length = request.content_length
        if not sr_name or length is None:
            raise HttpError(404, "vdi, or sr_id with a Content-Length, is required")
        sr = self._db.row("SR", self._door.find("SR", sr_name))
        return self._toolstack.vdis.new(sr, length, name_label="Imported disk")

    @staticmethod
    def _check_format(request: Request) -> None:
        if "transfer-encoding" in request.headers:
            raise HttpError(404, "Transfer-Encoding is not accepted")
        if request.query.get("format", "raw") not in ("raw", "vhd"):
            raise HttpError(404, f"unknown format {request.query['format'][:40]}")
        if request.content_length is None and "chunked" not in request.query:
            raise HttpError(404, "a Content-Length is required")

    def _writable_error(self, vdi) -> ApiError | None:
        if vdi["read_only"]:
            return ApiError("VDI_READONLY", vdi.ref)
        if active_vbds(self._db, vdi):
            return ApiError("VDI_IN_USE", vdi.ref, "import")
        if vdi["current_operations"]:
            running = vdi["current_operations"]
            return ApiError(
                "OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, ", ".join(running.values()), ", ".join(running)
            )
        return None

    def _receive(self, request: Request, caller: Caller, vdi_ref: str, planted: Fault | None) -> None:
        with self._db.lock:
            vdi = self._db.row("VDI", vdi_ref)
            self._db.set("VDI", vdi_ref, current_operations={caller.task_ref: "mirror"})
            self._toolstack.operations.refresh()
            try:
                with self._toolstack.vdis.image(vdi) as image, self._toolstack.unlocked():
                    receive(request, Upload(self._toolstack, vdi, image, caller))
                if planted:
                    raise ApiError(*planted.error)
            except (VhdError, ApiError, OSError, HttpError) as error:
                description = (
                    error.description if isinstance(error, ApiError) else ["INTERNAL_ERROR", f"import failed: {error}"]
                )
                self._toolstack.tasks.fail(caller.task_ref, description)
            else:
                self._toolstack.tasks.succeed(caller.task_ref, text_value(vdi_ref))
            finally:
                if self._db.find("VDI", vdi_ref):
                    self._db.set("VDI", vdi_ref, current_operations={})
                    self._toolstack.vdis.measure(vdi_ref)
                self._toolstack.operations.refresh()

    # export

    def get(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        kind = request.query.get("format", "raw")
        with self._door.logged("GET /export_raw_vdi", request), self._db.lock:
            self._door.authenticate(request, caller, "export_raw_vdi")
            caller.task_ref = self._door.task(request, caller, "Exporting raw VDI")
            try:
                vdi = self._db.row("VDI", self._door.find("VDI", request.query.get("vdi", "")))
                self._door.meet("GET /export_raw_vdi", vdi.ref, caller)
                base_name = request.query.get("base", "")
                base = self._db.row("VDI", self._door.find("VDI", base_name)) if base_name else None
                if kind not in ("raw", "vhd"):
                    raise HttpError(404, f"unknown format {kind[:40]}")
                self._send(request, caller, vdi, base, kind)
            except ApiError as error:
                self._toolstack.tasks.fail(caller.task_ref, error.description)
                raise HttpError(404, " ".join(error.description)) from None
            except (HttpError, OSError) as error:
                self._toolstack.tasks.fail(caller.task_ref, internal_error(f"export failed: {error}").description)
                raise

    def _send(self, request: Request, caller: Caller, vdi, base, kind: str) -> None:
        content_type = {"raw": "application/octet-stream", "vhd": "application/vhd"}[kind]
        headers = {"Content-Type": content_type, "task-id": caller.task_ref}
        headers["Content-Disposition"] = f'attachment; filename="{vdi["uuid"]}.{kind}"'
        vdis = self._toolstack.vdis
        with vdis.image(vdi) as image:
            request.send_head(200, headers)
            if base is not None and kind == "vhd" and not vdis.is_raw(vdi):
                with vdis.image(base) as base_image:
                    self._stream(request, stream_vhd(image, time.time(), base_image))
            elif kind == "vhd":
                self._stream(request, stream_vhd(image, time.time()))
            else:
                self._stream(request, image.pieces())
        self._toolstack.tasks.succeed(caller.task_ref, "")

    def _stream(self, request: Request, pieces: Iterator[bytes]) -> None:
        with self._toolstack.unlocked():
            for piece in pieces:
                self._toolstack.slow_down(len(piece))
                request.send(piece)
