"""What the daemons' entry points share. Nothing is imported before the choice of threads is made."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(prog: str, builder: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run the service that ``nova_lite.service.<builder>`` builds; ends the process with an explicit status.

    Threads of libraries would otherwise keep a failed process from ending.
    """
    status = 1
    try:
        status = _run(prog, builder, sys.argv[1:] if argv is None else argv)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(prog: str, builder: str, argv: Sequence[str]) -> int:
    from nova_lite import conf as configuration

    try:
        mode = configuration.concurrency_mode(argv, prog=prog)
        _set_up_concurrency(mode)
        conf = configuration.load(argv, prog=prog)
    except configuration.ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    return _serve(prog, builder, conf)


def _set_up_concurrency(mode: str) -> None:
    from nova_lite import concurrency

    concurrency.setup(mode)


def _serve(prog: str, builder: str, conf) -> int:
    from oslo_log import log as logging

    from nova_lite import conf as configuration
    from nova_lite import exception, service
    from nova_lite.cmd import logs

    logs.setup(conf)
    exception.NovaException.fatal_format_errors = conf.fatal_exception_format_errors
    log = logging.getLogger("nova_lite.cmd")
    for name in configuration.unknown_options(conf):
        log.warning("unknown option %s", name)
    try:
        return service.run(getattr(service, builder)(conf))
    except exception.ConfigurationError as error:
        log.error("%s", error)
        return 2
