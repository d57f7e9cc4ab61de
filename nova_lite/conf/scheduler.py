"""Options of choosing a host inside a cell."""

from oslo_config import cfg

from nova_lite.conf.types import ClassPath, class_list_opt, class_opt, seconds

DEFAULT_FILTERS = [
    "RetryFilter",
    "AvailabilityZoneFilter",
    "RamFilter",
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
]


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, _classes() + _limits()), ("trusted_computing", _attestation())]


def _classes() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("scheduler_topic", default="scheduler", help="Topic of the scheduler inside nova-cells."),
        class_opt("scheduler_manager", default="nova_lite.scheduler.manager.SchedulerManager",
                  help="Class of the scheduler manager."),
        class_opt("scheduler_driver", default="nova_lite.scheduler.filter_scheduler.FilterScheduler",
                  help="Class that chooses a host."),
        class_opt("scheduler_host_manager", default="nova_lite.scheduler.host_manager.HostManager",
                  help="Class that knows the hosts."),
        cfg.MultiOpt("scheduler_available_filters", item_type=ClassPath(),
                     default=["nova_lite.scheduler.filters.all_filters"],
                     help="Filters that may be named, each a class or a function that returns classes; repeatable."),
        class_list_opt("scheduler_default_filters", default=DEFAULT_FILTERS, help="Filters applied to a request."),
        class_list_opt("scheduler_weight_classes", default=["nova_lite.scheduler.weights.all_weighers"],
                       help="Weighers that order hosts."),
        class_list_opt("least_cost_functions",
                       help="Deprecated: functions of a host and the properties of a request that tell what it costs "
                       "there. The least sum wins, each function's value times the option <its name>_weight; the "
                       "weighers are not asked."),
        cfg.StrOpt("scheduler_json_config_location", default="",
                   help="JSON file with an object of further properties that filters and weighers see beside a "
                   "request's; read again within 5 minutes of a change."),
    ]


def _limits() -> list[cfg.Opt]:
    return [
        cfg.IntOpt("scheduler_max_attempts", default=3, min=1, mutable=True, help="Hosts tried for one instance."),
        cfg.IntOpt("scheduler_host_subset_size", default=1, min=1, mutable=True,
                   help="The host is drawn by lot among this many best ones."),
        cfg.FloatOpt("ram_allocation_ratio", default=1.5, min=0.0, mutable=True,
                     help="Memory promised per memory there is."),
        cfg.FloatOpt("cpu_allocation_ratio", default=16.0, min=0.0, mutable=True,
                     help="Virtual CPUs promised per CPU there is."),
        cfg.FloatOpt("disk_allocation_ratio", default=1.0, min=0.0, mutable=True,
                     help="Disk promised per disk there is."),
        cfg.FloatOpt("ram_weight_multiplier", default=1.0, mutable=True,
                     help="Weight of free memory; negative packs hosts full."),
        cfg.FloatOpt("compute_fill_first_cost_fn_weight", mutable=True,
                     help="Deprecated: what free memory costs; negative prefers hosts that have more of it. When set, "
                     "takes over from scheduler_weight_classes; when not, -1 where least_cost_functions has it."),
        cfg.FloatOpt("noop_cost_fn_weight", default=1.0, mutable=True,
                     help="Deprecated: what a host costs whatever it is, where least_cost_functions has that."),
        cfg.IntOpt("max_io_ops_per_host", default=8, min=0, mutable=True,
                   help="Instances building, resizing, or being snapshot on one host, at most."),
        cfg.IntOpt("max_instances_per_host", default=50, min=0, mutable=True, help="Instances on one host, at most."),
        cfg.ListOpt("isolated_images", default=[], help="Images that run on isolated hosts only."),
        cfg.ListOpt("isolated_hosts", default=[], help="Hosts that run isolated images only."),
    ]


def _attestation() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("attestation_server", help="Host of the attestation service that TrustedFilter asks."),
        cfg.PortOpt("attestation_port", default=8443, help="Its port."),
        cfg.StrOpt("attestation_server_ca_file", help="Certificates that its certificate is checked with; default: "
                   "those of the system."),
        cfg.StrOpt("attestation_api_url", default="/OpenAttestationWebServices/V1.0", help="Path of its API."),
        cfg.StrOpt("attestation_auth_blob", secret=True, help="Secret that it knows us by."),
        seconds("attestation_auth_timeout", 60, "How long its verdict on a host is believed."),
    ]
