"""The live view of the demo: a tree on a terminal, plain lines elsewhere."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from nova_lite import exception
from nova_lite.demo.story import Step, Story, host_name
from nova_lite.demo.tree import Tree
from nova_lite.demo.xenserver import XenServer

SAMPLE_S = 0.15
COLOURS = {"active": "green", "error": "red", "building": "yellow"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One machine as the top cell and its XenServer know it."""

    name: str
    cell: str
    host: str
    vm_state: str
    task_state: str | None
    progress: int
    xenserver: str

    def text(self) -> str:
        task = f", {self.task_state} {self.progress}%" if self.task_state else ""
        return f"{self.vm_state}{task}; XenServer: {self.xenserver}"


class Watch:
    """Samples the tree in the background until it is stopped."""

    def __init__(self, tree: Tree):
        self.tree = tree
        self.rows: tuple[Row, ...] = ()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watch", daemon=True)
        self._servers: dict[str, XenServer] = {}

    def __enter__(self) -> "Watch":
        for host in self.tree.hosts:
            self._servers[host.name] = XenServer(host.url, host.simulator.username, host.simulator.password)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopping.set()
        self._thread.join()
        for server in self._servers.values():
            server.close()

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            self.sample()

    def sample(self) -> None:
        """Read the states once."""
        machines = {
            machine.instance_uuid: machine.power_state
            for server in self._servers.values()
            for machine in server.machines()
        }
        try:
            instances = self.tree.api.compute_api.get_all(self.tree.context())
        except exception.NovaException:  # the next sample will do
            return
        self.rows = tuple(
            Row(
                name=one.display_name,
                cell=one.cell_name or self.tree.top.path,
                host=host_name(one),
                vm_state=one.vm_state,
                task_state=one.task_state,
                progress=one.progress or 0,
                xenserver=machines.get(one.uuid, "no VM"),
            )
            for one in sorted(instances, key=lambda one: one.display_name)
        )


class Lines:
    """Prints what changes, a line each: for pipes, files and logs."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._seen: dict[str, str] = {}
        self._lock = threading.Lock()

    def tell(self, line: str) -> None:
        with self._lock:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def on_step(self, step: Step) -> None:
        if step.seconds is None:
            self.tell(f"… {step.title} ({step.where})")
        else:
            self.tell(f"✓ {step.title}: {step.detail} ({step.seconds:.1f} s)")

    def play(self, story: Story) -> None:
        """Run the story, printing each change of state as it is seen."""
        stopping = threading.Event()
        with Watch(story.tree) as watch:
            printer = threading.Thread(target=self._print_changes, args=(watch, stopping), daemon=True)
            printer.start()
            try:
                story.run()
            finally:
                stopping.set()
                printer.join()

    def _print_changes(self, watch: Watch, stopping: threading.Event) -> None:
        while not stopping.wait(SAMPLE_S):
            for row in watch.rows:
                text = row.text()
                if self._seen.get(row.name) != text:
                    self._seen[row.name] = text
                    self.tell(f"  {row.name} in {row.cell}{'@' + row.host if row.host else ''}: {text}")


class Live:
    """Shows the tree and the steps on a terminal, redrawn in place."""

    def __init__(self, console: Any):
        self._console = console
        self._steps: list[Step] = []

    def tell(self, line: str) -> None:
        self._console.print(line, style="dim", highlight=False)

    def on_step(self, step: Step) -> None:
        if step not in self._steps:
            self._steps.append(step)

    def play(self, story: Story) -> None:
        """Run the story under a live picture of the tree."""
        import rich.live

        with Watch(story.tree) as watch:

            def picture() -> Any:
                return self._picture(story.tree, watch.rows)

            with rich.live.Live(get_renderable=picture, console=self._console, refresh_per_second=8):
                story.run()
                watch.sample()

    def _picture(self, tree: Tree, rows: tuple[Row, ...]) -> Any:
        import rich.console

        return rich.console.Group(self._tree(tree, rows), *self._step_lines())

    def _tree(self, tree: Tree, rows: tuple[Row, ...]) -> Any:
        import rich.markup
        import rich.tree

        branches: dict[str, Any] = {}
        for cell in tree.cells.values():
            label = f"[bold]{cell.path}[/]  [dim]{cell.transport_url}[/]"
            branch = branches[cell.parent.path].add(label) if cell.parent else rich.tree.Tree(label)
            branches[cell.path] = branch
            self._add_machines(branch, rows, cell.path, "")
            for host in cell.hosts:
                leaf = branch.add(f"{host.name}  [dim]{rich.markup.escape(host.url)}[/]")
                self._add_machines(leaf, rows, cell.path, host.name)
        return branches[tree.top.path]

    def _add_machines(self, branch: Any, rows: tuple[Row, ...], cell: str, host: str) -> None:
        for row in rows:
            if (row.cell, row.host) == (cell, host):
                branch.add(f"[cyan]{row.name}[/]  [{COLOURS.get(row.vm_state, 'white')}]{row.text()}[/]")

    def _step_lines(self) -> Iterator[str]:
        for step in self._steps:
            if step.seconds is None:
                yield f"[yellow]…[/] {step.title}  [dim]{step.where}[/]"
            else:
                yield f"[green]✓[/] {step.title}  [dim]{step.where}  {step.detail}  {step.seconds:.1f} s[/]"
