"""Options of our own in [database]; the rest of the section is oslo.db's."""

from collections.abc import Iterator

from oslo_config import cfg

from nova_lite.conf.types import seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [("database", [
        cfg.StrOpt("secret_key_file", default="$state_path/secret.key",
                   help="Key that passwords of neighbours' brokers are encrypted with in the table 'cells'. Made with "
                   "mode 0600 when first needed. All services of a cell need the same one."),
        seconds("sqlite_busy_timeout", 30, "How long a writer waits for other processes on the same SQLite file.",
                min=1),
        seconds("parents_cache_time", 60, "How long the answer to 'has this cell parents?' is believed."),
    ])]


def complaints(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield one line per mistake that no single option can show."""
    url = conf.database.connection or ""
    if "://" not in url:
        yield "[database] connection is not a database URL such as sqlite:////path/file or mysql+pymysql://…"
    if url.startswith("postgresql+psycopg:") and conf.concurrency == "eventlet":
        yield ("[database] connection: psycopg 3 stops all green threads while it waits; use postgresql+psycopg2, "
               "or concurrency = threading")
