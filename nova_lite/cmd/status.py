"""nova-status: whether this installation is ready for the release that is installed."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run nova-status with these arguments (default: the process's); return the exit status."""
    from nova_lite import concurrency

    concurrency.setup("threading")
    from nova_lite.client.app import NovaStatus

    return NovaStatus().run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
