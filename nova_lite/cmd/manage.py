"""nova-manage: databases, neighbours and flavors of one cell, worked on directly in its database."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run nova-manage with these arguments (default: the process's); return the exit status."""
    from nova_lite import concurrency

    concurrency.setup("threading")
    from nova_lite.client.app import NovaManage

    return NovaManage().run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
