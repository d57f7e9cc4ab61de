"""nova-lite: the client, the prompt and the demo."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run nova-lite with these arguments (default: the process's); return the exit status."""
    from nova_lite import concurrency

    concurrency.setup("threading")
    from nova_lite.client.app import NovaLite

    return NovaLite().run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
