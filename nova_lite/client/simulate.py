"""nova-lite simulate: how a tree of hundreds of cells behaves, on one machine."""

import dataclasses
import logging
import shutil
import tempfile
from pathlib import Path

from nova_lite.client import base
from nova_lite.client.errors import CommandError

_MAX_CELLS = 2000


class Simulate(base.Showing):
    """Play builds in a tree of cells, in one process and in moved time.

    Messages, schedulers, outboxes and databases are the real ones; hosts only keep count. Results but for real time
    and memory are the same for the same seed.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--cells", type=base.positive, default=20, metavar="N", help="Cells (default: 20).")
        parser.add_argument("--hosts", type=base.positive, default=2, metavar="M",
                            help="Hosts of each cell without children, of 16 GB each (default: 2).")
        parser.add_argument("--builds", type=base.positive, metavar="K",
                            help="Machines of 1 GB to build (default: ten to a cell).")
        parser.add_argument("--seed", type=int, default=1, help="Of all chance (default: 1).")
        return parser

    def take_action(self, parsed_args):
        if parsed_args.cells > _MAX_CELLS:
            raise CommandError(f"at most {_MAX_CELLS} cells can be simulated")
        builds = parsed_args.builds or 10 * parsed_args.cells
        directory = Path(tempfile.mkdtemp(prefix="nova-lite-simulate-"))
        logging.disable(logging.ERROR)
        try:
            result = self._play(parsed_args, builds, directory)
        finally:
            logging.disable(logging.NOTSET)
            shutil.rmtree(directory, ignore_errors=True)
            self._end_line()
        shown = dataclasses.asdict(result)
        shown.update({name: round(value, 1) for name, value in shown.items() if isinstance(value, float)})
        return self.dict2columns({"seed": parsed_args.seed, **shown})

    def _play(self, parsed_args, builds: int, directory: Path):
        from nova_lite.simulate.forest import Forest

        forest = Forest(parsed_args.cells, parsed_args.hosts, parsed_args.seed, directory, self._tell)
        try:
            return forest.play(builds, self._tell)
        finally:
            forest.close()

    def _tell(self, line: str) -> None:
        """Show progress where somebody watches."""
        if self.app.stderr.isatty():
            self.app.stderr.write(f"\r\x1b[K{line}")
            self.app.stderr.flush()

    def _end_line(self) -> None:
        if self.app.stderr.isatty():
            self.app.stderr.write("\r\x1b[K")
