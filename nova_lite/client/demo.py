"""nova-lite demo: a tree of cells on simulated XenServer hosts, in one process."""

import logging
import pathlib
import shutil
import tempfile
import time
from typing import Any

from cliff import command

from nova_lite.client import base
from nova_lite.client.errors import CommandError

# --count says how many machines; the hosts, not quotas, are the limit.
UNLIMITED: dict[tuple[str | None, str], Any] = {
    (None, f"quota_{resource}"): -1 for resource in ("instances", "cores", "ram")
}


class Demo(command.Command):
    """Start a tree of cells with simulated XenServer hosts, boot machines through it, take one through its life."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--count", type=base.positive, default=3, metavar="N", help="How many machines to boot (default: 3)."
        )
        parser.add_argument("--image", metavar="PATH", help="Your own VHD, raw or qcow2 image (default: a made one).")
        parser.add_argument("--shell", action="store_true", help="Leave a prompt with the client commands afterwards.")
        parser.add_argument("--keep", metavar="DIR", help="Keep databases, images and disks in this directory.")
        return parser

    def take_action(self, parsed_args):
        from nova_lite.demo import disk, story, tree

        directory = self._directory(parsed_args.keep)
        try:
            with _Logging(directory / "demo.log"):
                self._play(parsed_args, directory)
        except (disk.ImageError, story.StepFailed, tree.TreeError) as error:
            raise CommandError(f"the demo failed: {error}") from error
        finally:
            if not parsed_args.keep:
                shutil.rmtree(directory, ignore_errors=True)
        return 0

    def _directory(self, keep: str | None) -> pathlib.Path:
        if keep is None:
            return pathlib.Path(tempfile.mkdtemp(prefix="nova-lite-demo-"))
        directory = pathlib.Path(keep)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"cannot keep anything in {keep}: {error.strerror}") from error
        return directory

    def _play(self, parsed_args: Any, directory: pathlib.Path) -> None:
        from nova_lite.demo import story, tree

        started = time.monotonic()
        image = self._image(parsed_args.image, directory)
        view = self._view()
        running = tree.Tree(directory, overrides=UNLIMITED)
        with running:
            running.start(view.tell)
            view.tell(f"the tree is up after {time.monotonic() - started:.1f} s")
            tale = story.Story(running, image, parsed_args.count, view.on_step)
            view.play(tale)
            self.app.stdout.write(summary(tale, time.monotonic() - started))
            if parsed_args.keep:
                self.app.stdout.write(f"everything is kept in {directory}\n")
            if parsed_args.shell:
                self._prompt(running)

    def _image(self, path: str | None, directory: pathlib.Path) -> Any:
        from nova_lite.demo import disk

        return disk.users_image(pathlib.Path(path), directory) if path else disk.demo_image(directory)

    def _view(self) -> Any:
        import rich.console

        from nova_lite.demo import view

        console = rich.console.Console(file=self.app.stdout)
        return view.Live(console) if console.is_terminal else view.Lines(self.app.stdout)

    def _prompt(self, running: Any) -> None:
        """Read client commands for the top cell of the running tree, until the end of input or `quit`."""
        from nova_lite.client.app import NovaLitePrompt

        self.app.stdout.write("the tree is still running: try `server list`, `help`; `quit` ends it\n")
        self.app.stdout.flush()
        NovaLitePrompt(
            TreeConnection(running), stdin=self.app.stdin, stdout=self.app.stdout, stderr=self.app.stderr
        ).run([])


class TreeConnection:
    """The top cell of a tree in this process, as commands want it; closing it leaves the tree running."""

    def __init__(self, running: Any):
        self.conf = running.top.conf
        self.api = running.api
        self.services = running.api.services
        self.context = running.context

    def close(self) -> None:
        """Nothing: the tree belongs to somebody else."""


class _Logging:
    """Sends everything that the tree logs into one file, not onto the terminal."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def __enter__(self) -> None:
        self._handler = logging.FileHandler(self._path)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"))
        self._root = logging.getLogger()
        self._before = (self._root.level, self._root.handlers[:])
        self._root.handlers[:] = [self._handler]
        self._root.setLevel(logging.INFO)

    def __exit__(self, *_: Any) -> None:
        level, handlers = self._before
        self._root.setLevel(level)
        self._root.handlers[:] = handlers
        self._handler.close()


def summary(tale: Any, seconds: float) -> str:
    """Return what was called where, how long it took, and where the image's bytes landed."""
    lines = ["", f"{'step':<24} {'where':<34} {'seconds':>7}  what"]
    lines += [f"{step.title:<24} {step.where:<34} {step.seconds:7.2f}  {step.detail}" for step in tale.steps]
    lines.append("")
    lines += [
        f"image bytes of {uuid}: VDI {found.vdi_uuid} in {found.sr_name}, SHA-256 of the first "
        f"{tale.image.size_b:,} bytes {found.digest[:16]}… = the image's"
        for uuid, found in tale.disks.items()
    ]
    lines.append(f"all steps happened, in {seconds:.1f} s")
    return "\n".join(lines) + "\n"


