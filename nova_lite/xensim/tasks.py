"""Tasks: what runs for a client in the background, and what clients report about their own work."""

import time

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import EPOCH, NULL
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.values import timestamp_seconds, timestamp_text

TASK_LIMIT = 200
FINISHED_LIMIT_S = 65 * 60
PENDING_LIMIT_S = 24 * 3600


class Tasks(Noun):
    """The task table. `begin` to `abandon` are for whoever runs the work."""

    def begin(self, label: str, caller: Caller, description: str = "", allowed: tuple[str, ...] = ("cancel",)) -> str:
        """Add a pending task and return its reference."""
        self._expire()
        return self.db.create(
            "task",
            name_label=label,
            name_description=description,
            created=timestamp_text(time.time()),
            finished=EPOCH,
            status="pending",
            type="<none/>",
            session=caller.session_ref,
            resident_on=caller.host_ref,
            allowed_operations=list(allowed),
        )

    def report(self, task_ref: str, progress: float) -> None:
        """Set the progress of a pending task; a task that is gone is no error."""
        row = self.db.find("task", task_ref)
        if row and row["status"] == "pending":
            self.db.set("task", task_ref, progress=progress)

    def succeed(self, task_ref: str, result: str = "") -> None:
        self._finish(task_ref, status="success", result=result)

    def fail(self, task_ref: str, description: list[str]) -> None:
        status = "cancelled" if description[0] == "TASK_CANCELLED" else "failure"
        self._finish(task_ref, status=status, error_info=description)

    def abandon(self, task_ref: str) -> None:
        """Leave the task pending for ever, as a toolstack that died did."""

    def _finish(self, task_ref: str, **values) -> None:
        row = self.db.find("task", task_ref)
        if row is None:
            return
        is_unwanted = "destroy" in row["current_operations"].values()
        now = timestamp_text(time.time())
        self.db.set(
            "task", task_ref, progress=1.0, finished=now, allowed_operations=[], current_operations={}, **values
        )
        if is_unwanted:
            self.db.destroy("task", task_ref)

    def is_cancelled(self, task_ref: str) -> bool:
        row = self.db.find("task", task_ref)
        return bool(row) and "cancel" in row["current_operations"].values()

    def _expire(self) -> None:
        now = time.time()
        finished = []
        for row in self.db.rows("task"):
            is_pending = row["status"] == "pending"
            age = now - timestamp_seconds(row["created"] if is_pending else row["finished"])
            if age > (PENDING_LIMIT_S if is_pending else FINISHED_LIMIT_S):
                self.db.destroy("task", row.ref)
            elif not is_pending:
                finished.append(row)
        excess = len(self.db.tables["task"]) - TASK_LIMIT
        for row in sorted(finished, key=lambda row: (row["finished"], row.modified))[: max(excess, 0)]:
            self.db.destroy("task", row.ref)

    @call("task.create")
    def create(self, caller, label, description):
        return self.begin(label, caller, description, allowed=())

    @call("task.destroy")
    def destroy(self, caller, ref):
        row = self.db.row("task", ref)
        if row["status"] in ("pending", "cancelling") and self._is_served(row):
            self.db.set("task", ref, current_operations={**row["current_operations"], caller.session_ref: "destroy"})
        else:
            self.db.destroy("task", ref)

    @staticmethod
    def _is_served(row) -> bool:
        """Return whether the toolstack itself works on the task; a client's own task nobody else finishes."""
        return row["name_label"].startswith("Async.") or bool(row["allowed_operations"])

    @call("task.cancel")
    def cancel(self, _caller, ref):
        row = self.db.row("task", ref)
        if row["status"] != "pending" or "cancel" not in row["allowed_operations"]:
            raise ApiError("OPERATION_NOT_ALLOWED", "task cannot be cancelled")
        self.db.set("task", ref, current_operations={**row["current_operations"], NULL: "cancel"})

    @call("task.set_status")
    def set_status(self, _caller, ref, value):
        self.db.set("task", ref, status=value)
        if value not in ("pending", "cancelling"):
            self.db.set("task", ref, finished=timestamp_text(time.time()), allowed_operations=[])
