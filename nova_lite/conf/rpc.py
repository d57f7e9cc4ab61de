"""Options of messaging that are not oslo.messaging's own."""

from oslo_config import cfg


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, [
        cfg.IntOpt("rpc_conn_pool_size", min=1,
                   help="Connections to a broker, and calls to it at once where threads are native; stands in for "
                        "[oslo_messaging_rabbit] rpc_conn_pool_size."),
        cfg.IntOpt("rpc_cast_timeout", default=30, min=0,
                   help="Kept for configurations of older releases; only zeromq used it. Seconds."),
        cfg.IntOpt("rpc_dedup_size", default=10000, min=0,
                   help="Operation ids a handler remembers, to drop a message that arrives twice."),
    ])]
