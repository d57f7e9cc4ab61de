"""nova-lite: the client, the prompt and the demo."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run nova-lite with these arguments (default: the process's); return the exit status."""
    from nova_lite import concurrency

    concurrency.setup("threading")
    from nova_lite.client.app import Program
    from nova_lite.client.commands import CLIENT, DEMO

    program = Program("nova-lite", "Servers, images and cells of a nova_lite deployment.", {**CLIENT, **DEMO})
    return program.run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
