"""nova-cells: the way of a cell to the other cells, and its scheduler."""

from nova_lite.cmd import daemon


def main() -> None:
    """Run nova-cells."""
    daemon.main("nova-cells", "build_cells_service")


if __name__ == "__main__":
    main()
