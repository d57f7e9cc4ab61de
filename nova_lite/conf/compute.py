"""Options of nova-compute and of the user-level compute API."""

from oslo_config import cfg

from nova_lite.conf.types import class_opt, moved_to, seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, _daemon() + _api() + _polling() + _recovery() + _disks()), ("workarounds", _workarounds())]


def _daemon() -> list[cfg.Opt]:
    return [
        class_opt("compute_driver",
                  help="Class of the hypervisor driver, such as xenapi.XenAPIDriver or fake.FakeDriver; names "
                  "without a package are looked up below nova_lite.virt."),
        cfg.StrOpt("compute_topic", default="compute", help="Topic of nova-compute."),
        class_opt("compute_stats_class", default="nova_lite.compute.stats.Stats",
                  help="Class that sums up the instances of a host."),
        class_opt("firewall_driver", default="nova_lite.virt.firewall.NoopFirewallDriver",
                  help="Class of the firewall driver."),
        cfg.BoolOpt("defer_iptables_apply", default=False, help="Apply firewall changes in one go at start."),
        cfg.IntOpt("reserved_host_disk_mb", default=0, min=0, help="Disk kept for the host. MB."),
        cfg.IntOpt("reserved_host_memory_mb", default=512, min=0, help="Memory kept for the host. MB."),
        seconds("vif_plugging_timeout", 300, "How long a build waits for active interfaces; 0 waits not."),
        cfg.BoolOpt("vif_plugging_is_fatal", default=True, help="A build whose interfaces stay inactive fails."),
        seconds("shutdown_timeout", 60, "How long a guest may take to shut down before it is switched off.",
                mutable=True),
        cfg.IntOpt("live_migration_retry_count", default=30, min=0,
                   help="Kept for configurations of older releases; XenServer moves the disks itself."),
    ]


def _api() -> list[cfg.Opt]:
    return [
        class_opt("compute_api_class", default="nova_lite.compute.api.API", help="Class behind the compute API."),
        cfg.StrOpt("vpn_image_id", default="0", help="Image treated as the VPN image of a project."),
        cfg.StrOpt("default_access_ip_network_name", help="Network whose addresses become the access addresses."),
        cfg.BoolOpt("allow_resize_to_same_host", default=False, help="A resize may stay on its host."),
        cfg.StrOpt("default_instance_type", default="m1.small", help="Flavor of requests that name none."),
        cfg.StrOpt("null_kernel", default="nokernel", help="Kernel id that means: the image has none."),
        cfg.ListOpt("non_inheritable_image_properties", default=["cache_in_nova", "bittorrent"],
                    help="Image properties a snapshot does not take over."),
        cfg.StrOpt("osapi_compute_unique_server_name_scope", default="", choices=["", "project", "global"],
                   help="Where host names must be unique; empty: nowhere."),
        cfg.StrOpt("security_group_api", default="nova",
                   help="Who keeps security groups; 'nova' is this project's own tables."),
        cfg.BoolOpt("cinder_cross_az_attach", default=True, help="Volumes of other zones may be attached.",
                    deprecated_opts=moved_to(("cinder", "cross_az_attach"))),
    ]


def _polling() -> list[cfg.Opt]:
    return [
        seconds("bandwidth_poll_interval", 600, "Time between readings of network counters; 0 reads never.",
                deprecated_opts=moved_to(("DEFAULT", "bandwith_poll_interval"))),
        seconds("heal_instance_info_cache_interval", 60, "Time between refreshes of cached network info; 0 is off.",
                min=None, mutable=True),
        seconds("host_state_interval", 120, "Time between reports of the host's state; also how long they are cached."),
        seconds("image_cache_manager_interval", 2400, "Time between sweeps of cached images; 0 is off."),
        seconds("volume_usage_poll_interval", 0, "Time between readings of volume usage; 0 is off."),
        seconds("sync_power_state_interval", 600, "Time between comparisons of power states; negative is off.",
                min=None, mutable=True),
        seconds("update_resources_interval", 0, "Time between full audits of the host; 0 each pass, negative off.",
                min=None, mutable=True),
        seconds("instance_delete_interval", 300, "Time between attempts to remove left-over files."),
        cfg.IntOpt("maximum_instance_delete_attempts", default=5, min=1, help="Such attempts per instance."),
        cfg.BoolOpt("instance_usage_audit", default=False, help="Notify the existence of instances per period."),
        cfg.StrOpt("instance_usage_audit_period", default="month",
                   help="Period of that audit: hour, day, month or year, with @offset if wanted."),
    ]


def _recovery() -> list[cfg.Opt]:
    return [
        seconds("reclaim_instance_interval", 0, "Deleted instances can be restored for this long; 0: not at all.",
                mutable=True),
        seconds("reboot_timeout", 0, "A reboot that takes longer becomes a hard one; 0 is off.", mutable=True),
        seconds("instance_build_timeout", 0, "A build that takes longer has failed; 0 is off.", mutable=True),
        seconds("rescue_timeout", 0, "A rescue that lasts longer is ended; 0 is off.", mutable=True),
        seconds("resize_confirm_window", 0, "A resize is confirmed by itself after this time; 0 is off.", mutable=True),
        cfg.StrOpt("running_deleted_instance_action", default="log", choices=["noop", "log", "shutdown", "reap"],
                   mutable=True, help="What is done about guests that run although their row is deleted."),
        seconds("running_deleted_instance_poll_interval", 1800, "Time between searches for such guests."),
        seconds("running_deleted_instance_timeout", 0, "How long after the deletion a guest may still run."),
        cfg.BoolOpt("resume_guests_state_on_host_boot", default=False,
                    help="Start the guests that were running when the host went down."),
    ]


def _disks() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("default_ephemeral_format", help="File system of ephemeral disks."),
        cfg.StrOpt("preallocate_images", default="none", choices=["none", "space"],
                   help="Kept for configurations of older releases; storage repositories decide."),
        cfg.BoolOpt("use_cow_images", default=True, help="Disks share the unchanged blocks of their image."),
        cfg.IntOpt("block_device_allocate_retries", default=60, min=0,
                   help="How often a new volume of a build is looked at again until it is available."),
        seconds("block_device_allocate_retries_interval", 3, "Time between these looks."),
    ]


def _workarounds() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("handle_virt_lifecycle_events", default=True,
                    help="Act on the hypervisor's events; without them power states are only compared periodically."),
        cfg.BoolOpt("destroy_after_evacuate", default=True,
                    help="Remove guests from this host at start that were evacuated from it."),
    ]
