"""Commands of nova-manage: they work in the cell's database, without its broker and without any daemon."""
