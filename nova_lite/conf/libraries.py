"""Options that belong to the oslo libraries, registered from their own definitions on a private ConfigOpts.

The libraries register the very same option objects later themselves; an own definition with another default would be
refused as a duplicate, so other defaults are set after registering.
"""

from oslo_config import cfg


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options of oslo.log, oslo.messaging, oslo.db, oslo.policy, oslo.concurrency and periodic tasks."""
    import oslo_concurrency.lockutils
    import oslo_db.options
    import oslo_log.log
    import oslo_policy.opts

    oslo_log.log.register_options(conf)
    conf.register_opts(oslo_db.options.database_opts, group="database")
    for group, opts in oslo_policy.opts.list_opts():
        conf.register_opts(opts, group=group)
    conf.register_opts(oslo_concurrency.lockutils._opts, group="oslo_concurrency")
    _register_messaging(conf)
    _set_defaults(conf)


def _register_messaging(conf: cfg.ConfigOpts) -> None:
    # oslo.messaging drags a quarter of a second of imports along: only when a configuration is really built.
    import oslo_messaging.opts
    import oslo_service.periodic_task

    for group, opts in [*oslo_messaging.opts.list_opts(), *oslo_service.periodic_task.list_opts()]:
        conf.register_opts(opts, group=group)
    # oslo.messaging 18 reads these two groups of the configuration it is given without registering them.
    conf.register_opts([cfg.BoolOpt("tracing_enabled", default=False)], group="oslo_messaging_tracing")
    conf.register_opts(
        [
            cfg.BoolOpt("metrics_enabled", default=False),
            cfg.IntOpt("metrics_buffer_size", default=1000),
            cfg.StrOpt("metrics_socket_file", default="/var/tmp/metrics_collector.sock"),
            cfg.StrOpt("metrics_process_name", default=""),
            cfg.IntOpt("metrics_thread_stop_timeout", default=10),
        ],
        group="oslo_messaging_metrics",
    )


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    conf.set_default("control_exchange", "nova")
    conf.set_default("connection", "sqlite:///$state_path/nova_lite.sqlite", group="database")
    # Listeners of the rabbit driver look at their stop flag once per poll, and the poll is
    # min(5, threshold / rate / 2) seconds: with these a service stops in half a second instead of five.
    conf.set_default("heartbeat_timeout_threshold", 30, group="oslo_messaging_rabbit")
    conf.set_default("heartbeat_rate", 30, group="oslo_messaging_rabbit")
    # A broker that is back is to be found within seconds, however long it was away.
    conf.set_default("rabbit_interval_max", 1, group="oslo_messaging_rabbit")
    conf.set_default("kombu_reconnect_delay", 0.5, group="oslo_messaging_rabbit")


def apply_flat_names(conf: cfg.ConfigOpts) -> None:
    """Let the flat names of old configurations stand in for library options that are not set themselves."""
    for flat, name, group in (
        ("notification_driver", "driver", "oslo_messaging_notifications"),
        ("notification_topics", "topics", "oslo_messaging_notifications"),
        ("rpc_conn_pool_size", "rpc_conn_pool_size", "oslo_messaging_rabbit"),
    ):
        if conf[flat]:
            conf.set_default(name, conf[flat], group=group)
