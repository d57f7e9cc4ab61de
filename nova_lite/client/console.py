"""nova-lite console: the way to the screens of servers."""

import signal
import threading

from nova_lite.client import base
from nova_lite.client.errors import CommandError


class RunProxy(base.Action):
    """Serve the consoles of every cell to browsers, beside the top cell, until SIGTERM or Ctrl-C."""

    def take_action(self, parsed_args):
        try:
            from nova_lite.console.proxy import ConsoleProxy
        except ImportError as error:
            raise CommandError("the console proxy needs websockify: pip install 'nova_lite[console]'") from error
        with ConsoleProxy(self.services) as proxy:
            for number in (signal.SIGTERM, signal.SIGINT):
                # shutdown() waits for the loop, which is the very thread that is interrupted here.
                signal.signal(number, lambda *_: threading.Thread(target=proxy.shutdown).start())
            host, port = proxy.server_address[:2]
            self.app.LOG.info("serving consoles on %s:%s", host, port)
            proxy.serve_forever()
