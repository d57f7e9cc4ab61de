"""[xenserver]: how hosts are reached and how guests are made on them."""

from collections.abc import Iterator

from oslo_config import cfg
from oslo_config import types as cfg_types

from nova_lite.conf.types import ClassPath, class_opt, moved_to, seconds


def _flat(name: str) -> list[cfg.DeprecatedOpt]:
    return moved_to(("DEFAULT", name))


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [("xenserver", _connection() + _storage() + _agent() + _guests() + _images()), (None, _common())]


def _connection() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("connection_url", deprecated_opts=_flat("xenapi_connection_url"),
                   help="URL of the XenAPI of this host or its pool; unix://local is the local socket."),
        cfg.StrOpt("connection_username", default="root", deprecated_opts=_flat("xenapi_connection_username"),
                   help="User that logs in."),
        cfg.StrOpt("connection_password", secret=True, deprecated_opts=_flat("xenapi_connection_password"),
                   help="Password of that user."),
        cfg.IntOpt("connection_concurrent", default=5, min=1, deprecated_opts=_flat("xenapi_connection_concurrent"),
                   help="Sessions kept open."),
        cfg.StrOpt("connection_ca_file", help="Certificates that the host's certificate is checked against."),
        cfg.BoolOpt("connection_verify", default=True, help="Check the certificate of the host."),
        cfg.ListOpt("connection_fingerprint", default=[],
                    help="SHA-256 fingerprints (hexadecimal) of the only certificates that are accepted, in place of "
                         "checking who signed them: of the host, and of the other members of its pool."),
        seconds("login_timeout", 10, "How long a login may take.", min=1,
                deprecated_opts=_flat("xenapi_login_timeout")),
        seconds("call_timeout", 900, "How long one XenAPI call may take.", min=1),
        seconds("task_timeout", 3600, "How long a XenAPI task may take.", min=1),
        cfg.FloatOpt("task_poll_interval", default=0.5, min=0.01, deprecated_opts=_flat("xenapi_task_poll_interval"),
                     help="Time between looks at a task where events are not used. Seconds."),
        cfg.StrOpt("plugin_wire", default="json", choices=["json", "legacy"],
                   help="How arguments of dom0 plugins are encoded: json for the plugins that come with nova_lite, "
                        "legacy (pickles) for those of the reference, version 2.1."),
        cfg.BoolOpt("check_host", default=False, deprecated_opts=_flat("xenapi_check_host"),
                    help="Insist that nova-compute runs in a guest of the host it manages."),
        cfg.BoolOpt("independent_compute", default=True,
                    help="nova-compute runs anywhere and leaves the inside of disks alone; without it, partitions "
                    "follow their disks (auto_disk_config), in copies that travel here and back."),
        cfg.BoolOpt("use_join_force", default=True, deprecated_opts=_flat("use_join_force"),
                    help="Join pools even if the hosts differ."),
        cfg.StrOpt("console_public_hostname", deprecated_opts=_flat("console_public_hostname"),
                   help="Name under which consoles of this host are reached; unset: the machine's host name."),
    ]


def _storage() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("sr_matching_filter", default="default-sr:true", deprecated_opts=_flat("sr_matching_filter"),
                   help="Storage repository of guests: default-sr:true or other-config:KEY=VALUE."),
        cfg.StrOpt("sr_base_path", default="/var/run/sr-mount", deprecated_opts=_flat("xenapi_sr_base_path"),
                   help="Where dom0 mounts storage repositories."),
        cfg.FloatOpt("vhd_coalesce_poll_interval", default=5.0, min=0.01,
                     deprecated_opts=_flat("xenapi_vhd_coalesce_poll_interval"),
                     help="Time between looks whether a disk has coalesced. Seconds."),
        cfg.IntOpt("vhd_coalesce_max_attempts", default=20, min=1,
                   deprecated_opts=_flat("xenapi_vhd_coalesce_max_attempts"), help="Such looks before giving up."),
        cfg.StrOpt("target_host", deprecated_opts=_flat("target_host"), help="iSCSI portal of volumes that name none."),
        cfg.PortOpt("target_port", default=3260, deprecated_opts=_flat("target_port"), help="iSCSI port likewise."),
        cfg.StrOpt("iqn_prefix", default="iqn.2010-10.org.openstack", deprecated_opts=_flat("iqn_prefix"),
                   help="Prefix of iSCSI qualified names."),
        seconds("block_device_creation_timeout", 10, "How long a plugged disk may take to appear.",
                deprecated_opts=_flat("block_device_creation_timeout")),
        cfg.IntOpt("num_vbd_unplug_retries", default=10, min=0,
                   deprecated_opts=_flat("xenapi_num_vbd_unplug_retries"), help="Further attempts to unplug a disk."),
        seconds("introduce_vdi_retry_wait", 20, "How long a scan may take to show a volume."),
        cfg.BoolOpt("sparse_copy", default=True, deprecated_opts=_flat("xenapi_sparse_copy"),
                    help="Skip empty blocks when copying disks."),
        cfg.BoolOpt("remap_vbd_dev", default=False, deprecated_opts=_flat("xenapi_remap_vbd_dev"),
                    help="Disks that are attached to ourselves have devices of another name than xvd; some old "
                         "kernels need it."),
        cfg.StrOpt("remap_vbd_dev_prefix", default="sd", deprecated_opts=_flat("xenapi_remap_vbd_dev_prefix"),
                   help="What the names of such devices begin with."),
    ]


def _agent() -> list[cfg.Opt]:
    return [
        seconds("agent_timeout", 30, "How long the guest agent may take to answer.",
                deprecated_opts=_flat("agent_timeout")),
        seconds("agent_version_timeout", 300, "How long a booting guest's agent may take to appear.",
                deprecated_opts=_flat("agent_version_timeout")),
        seconds("agent_resetnetwork_timeout", 60, "How long the agent may take to set up the network.",
                deprecated_opts=_flat("agent_resetnetwork_timeout")),
        cfg.StrOpt("agent_path", default="usr/sbin/xe-update-networking", deprecated_opts=_flat("xenapi_agent_path"),
                   help="File in an image that shows it has an agent."),
        cfg.BoolOpt("disable_agent", default=False, deprecated_opts=_flat("xenapi_disable_agent"),
                    help="Never talk to guest agents."),
        cfg.BoolOpt("use_agent_default", default=False,
                    help="Talk to agents of images that do not say whether they have one."),
        cfg.StrOpt("agent_key_digest", default="md5", choices=["md5", "sha256"],
                   help="Digest that makes the key of the password exchange."),
    ]


def _guests() -> list[cfg.Opt]:
    return [
        seconds("running_timeout", 60, "How long a started guest may take to run.",
                deprecated_opts=_flat("xenapi_running_timeout")),
        cfg.Opt("vif_driver", type=ClassPath(), default="bridge", deprecated_opts=_flat("xenapi_vif_driver"),
                help="How interfaces are plugged: bridge, ovs (one Open vSwitch bridge), ovs-ports (one for every "
                     "interface; needs the dom0 plugins), or a class."),
        cfg.StrOpt("ovs_integration_bridge", default="xapi1", deprecated_opts=_flat("xenapi_ovs_integration_bridge"),
                   help="Integration bridge of the ovs interface driver."),
        cfg.StrOpt("default_os_type", default="linux", deprecated_opts=_flat("default_os_type"),
                   help="Operating system of images that name none."),
        cfg.MultiOpt("provider_data", item_type=cfg_types.String(regex=r"^[A-Za-z0-9_@-]+="),
                     help="KEY=VALUE: what new guests find in their xenstore as vm-data/provider_data/KEY, plain text "
                          "or JSON as the tools in the guests expect it. May be repeated."),
        cfg.BoolOpt("generate_swap", default=True, deprecated_opts=_flat("xenapi_generate_swap"),
                    help="Make the swap disks of flavors; without it guests have none beside what their image brings."),
    ]


def _images() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("cache_images", default="all", choices=["all", "some", "none"],
                   help="Images kept on the host: all, those with the property cache_in_nova=True, or none.",
                   deprecated_opts=_flat("cache_images")),
        seconds("image_cache_max_age", 24 * 3600, "Cached images that no disk needs are removed when they were not "
                "used for this long; 0 keeps them."),
        cfg.IntOpt("image_cache_max_size_gb", default=0, min=0,
                   help="Cached images that no disk needs are removed, the longest unused first, while all cached "
                   "images together take more than this; 0 is no bound."),
        cfg.IntOpt("image_compression_level", min=1, max=9, help="Gzip level of uploaded snapshots."),
        cfg.StrOpt("image_handler", default="vdi_remote_stream",
                   choices=["direct_vhd", "vdi_local_dev", "vdi_remote_stream"],
                   help="How images reach the host: by a dom0 plugin, by a disk attached to ourselves, or streamed "
                   "over HTTP."),
        class_opt("image_upload_handler", default="", deprecated_opts=_flat("xenapi_image_upload_handler"),
                  help="Class that uploads snapshots, by its method upload_image(context, session, instance, image_id, "
                  "vdi_uuids); empty: as image_handler."),
        cfg.IntOpt("max_kernel_ramdisk_size", default=16 * 1024 * 1024, min=0,
                   deprecated_opts=_flat("max_kernel_ramdisk_size"), help="Largest kernel or ramdisk. Bytes."),
        cfg.StrOpt("ipxe_network_name", help="Network an iPXE guest boots from."),
        cfg.StrOpt("ipxe_boot_menu_url", help="Boot menu of iPXE guests."),
        cfg.StrOpt("ipxe_mkisofs_cmd", default="mkisofs", help="Program that makes iPXE images."),
    ]


def _common() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("flat_injected", default=False, help="Write the network set-up into a guest's disk."),
        cfg.StrOpt("vlan_interface", help="Physical interface of VLANs, where networks name none."),
    ]


def complaints(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield one line per mistake that no single option can show."""
    if not conf.xenserver.independent_compute:
        return
    if conf.xenserver.check_host:
        yield "[xenserver] check_host = true needs independent_compute = false"
    if conf.flat_injected:
        yield "flat_injected = true needs [xenserver] independent_compute = false"
    if conf.default_ephemeral_format not in (None, "", "ext3", "ext4"):
        yield (f"default_ephemeral_format = {conf.default_ephemeral_format} needs [xenserver] "
               "independent_compute = false; otherwise leave it out, or ext3 or ext4")
