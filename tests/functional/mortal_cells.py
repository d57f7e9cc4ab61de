"""nova-cells that kills itself, once each, at the points named in MORTAL_AT: python -m tests.functional.mortal_cells.

MORTAL_AT is a list such as 'receive:build_instances,reply:service_get_by_compute_host'; a file in MORTAL_DIRECTORY
tells that a point was reached, so that the next process lives on. Points are moments of a message's way:

    receive   it was taken from the broker, nothing has been done
    persist   rows were written for a build, nobody has been told
    forward   it is about to be sent to the next cell
    reply     its answer is about to be sent
"""

import os
import pathlib
import signal

from nova_lite.cmd import daemon


class Fate:
    """The points at which this process still has to die."""

    def __init__(self, points, directory):
        self._points = points
        self._directory = pathlib.Path(directory)

    def meet(self, point, method):
        name = f"{point}:{method}"
        if name not in self._points:
            return
        try:
            (self._directory / name).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def make_mortal(fate):
    """Have messages meet their fate; after the choice of threads, before the service is built."""
    from nova_lite.cells.cell_state import CellState
    from nova_lite.cells.messages import Message, ResponseMessage
    from nova_lite.cells.messaging import MessageRunner
    from nova_lite.scheduler.handover import SchedulerAPI

    def before(owner, name, meet):
        original = getattr(owner, name)

        def mortal(self, *args, **kwargs):
            meet(self, *args)
            return original(self, *args, **kwargs)

        setattr(owner, name, mortal)

    def is_request(message):
        return not isinstance(message, ResponseMessage)

    before(MessageRunner, "remember", lambda runner, message: fate.meet("receive", message.method_name))
    before(SchedulerAPI, "run_instance", lambda *_: fate.meet("persist", "build_instances"))
    before(CellState, "send_message",
           lambda cell, message, *_: is_request(message) and fate.meet("forward", message.method_name))
    before(Message, "_answer", lambda message, *_: fate.meet("reply", message.method_name))


def main():
    fate = Fate(os.environ["MORTAL_AT"].split(","), os.environ["MORTAL_DIRECTORY"])
    serve = daemon._serve

    def mortal_serve(*args):
        make_mortal(fate)
        return serve(*args)

    daemon._serve = mortal_serve
    daemon.main("nova-cells", "build_cells_service")


if __name__ == "__main__":
    main()
