"""Entry points of the daemons and commands; thin."""
