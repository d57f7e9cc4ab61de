"""nova-compute: the instances of one XenServer host."""

from nova_lite.cmd import daemon


def main() -> None:
    """Run nova-compute."""
    daemon.main("nova-compute", "build_compute_service")


if __name__ == "__main__":
    main()
