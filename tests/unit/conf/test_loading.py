"""A configuration is private, complete, and tells mistakes in one line."""

import pytest
from oslo_config import cfg

from nova_lite import conf as nova_conf


def load(tmp_path, text="", **kwargs):
    path = tmp_path / "test.conf"
    path.write_text(text)
    return nova_conf.load([], prog="test", config_files=[str(path)], config_dirs=[], **kwargs)


def test_defaults_are_those_of_the_specifications(tmp_path):
    conf = load(tmp_path)

    assert conf.cells.name == "nova"
    assert conf.cells.call_timeout == 60
    assert conf.multi_instance_display_name_template == "%(name)s-%(count)d"
    assert conf.xenserver.independent_compute is True
    assert conf.xenserver.image_handler == "vdi_remote_stream"
    assert conf.xenserver.vhd_coalesce_max_attempts == 20
    assert conf.quota_ram == 51200
    assert conf.rpc_response_timeout == 60
    assert conf.control_exchange == "nova"
    assert conf.image.store_path == f"{conf.state_path}/images"
    assert conf.run_external_periodic_tasks is True


def test_two_configurations_do_not_see_each_other(tmp_path):
    one = load(tmp_path, overrides={("cells", "name"): "one", (None, "host"): "h1"})
    two = load(tmp_path, overrides={("cells", "name"): "two"})

    assert (one.cells.name, two.cells.name) == ("one", "two")
    assert one.host == "h1" != two.host
    with pytest.raises(cfg.NoSuchOptError):
        _ = cfg.CONF.cells


@pytest.mark.parametrize("text, read, expected", [
    ("[DEFAULT]\nxenapi_connection_url = https://x", lambda c: c.xenserver.connection_url, "https://x"),
    ("[DEFAULT]\ncache_images = none", lambda c: c.xenserver.cache_images, "none"),
    ("[DEFAULT]\nbandwith_poll_interval = 7", lambda c: c.bandwidth_poll_interval, 7),
    ("[vnc]\nenabled = false", lambda c: c.vnc_enabled, False),
    ("[vnc]\nserver_proxyclient_address = 10.0.0.9", lambda c: c.vncserver_proxyclient_address, "10.0.0.9"),
    ("[glance]\nnum_retries = 3", lambda c: c.glance_num_retries, 3),
    ("[quota]\ncores = 99", lambda c: c.quota_cores, 99),
    ("[DEFAULT]\nnotification_driver = messagingv2",
     lambda c: c.oslo_messaging_notifications.driver, ["messagingv2"]),
    ("[DEFAULT]\nnotification_driver = log\n[oslo_messaging_notifications]\ndriver = noop",
     lambda c: c.oslo_messaging_notifications.driver, ["noop"]),
    ("[DEFAULT]\nrpc_thread_pool_size = 5", lambda c: c.executor_thread_pool_size, 5),
    ("[DEFAULT]\nrpc_conn_pool_size = 6", lambda c: c.oslo_messaging_rabbit.rpc_conn_pool_size, 6),
])
def test_other_spellings_are_read(tmp_path, text, read, expected):
    assert read(load(tmp_path, text)) == expected


@pytest.mark.parametrize("text, read, expected", [
    ("[cells]\nscheduler = nova.cells.scheduler.CellsScheduler",
     lambda c: c.cells.scheduler, "nova_lite.cells.scheduler.CellsScheduler"),
    ("[cells]\nscheduler_filter_classes = nova.cells.filters.all_filters,mine.Filter",
     lambda c: c.cells.scheduler_filter_classes, ["nova_lite.cells.filters.all_filters", "mine.Filter"]),
    ("[DEFAULT]\nscheduler_available_filters = nova.scheduler.filters.all_filters\nscheduler_available_filters = x.Y",
     lambda c: c.scheduler_available_filters, ["nova_lite.scheduler.filters.all_filters", "x.Y"]),
    ("[DEFAULT]\ncompute_driver = nova.virt.xenapi.XenAPIDriver",
     lambda c: c.compute_driver, "nova_lite.virt.xenapi.XenAPIDriver"),
    ("[DEFAULT]\ncompute_driver = xenapi.XenAPIDriver", lambda c: c.compute_driver, "xenapi.XenAPIDriver"),
])
def test_class_paths_of_the_reference_are_translated(tmp_path, text, read, expected):
    assert read(load(tmp_path, text)) == expected


@pytest.mark.parametrize("text, words", [
    ("[cells]\nmax_hop_count = many", "max_hop_count"),
    ("[cells]\nmax_hop_count = 0", "max_hop_count"),
    ("[cells]\ncell_type = middle", "cell_type"),
    ("[cells]\nname = a!b", "contains one of"),
    ("[cells]\ncapabilities = linux", "name=value"),
    ("[conductor]\nuse_local = false", "use_local"),
    ("[xenserver]\nconnection_concurrent = 0", "connection_concurrent"),
    ("[DEFAULT]\nconcurrency = forks", "concurrency"),
    ("[DEFAULT]\nreport_interval = 90", "service_down_time"),
    ("[database]\nconnection = nowhere", "database URL"),
    ("[database]\nconnection = postgresql+psycopg://x/y", "psycopg2"),
    ("[cells\nname = x", "test.conf"),
])
def test_a_mistake_is_one_line(tmp_path, text, words):
    with pytest.raises(nova_conf.ConfigError) as caught:
        load(tmp_path, text)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line():
    with pytest.raises(nova_conf.ConfigError, match="absent.conf"):
        nova_conf.load([], prog="test", config_files=["/nowhere/absent.conf"], config_dirs=[])


def test_an_override_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(nova_conf.ConfigError, match="max_hop_count"):
        load(tmp_path, overrides={("cells", "max_hop_count"): "many"})


def test_options_nobody_knows_are_listed(tmp_path):
    conf = load(tmp_path, "[cells]\nnmae = x\nname = y\n[vnc]\nenabled = true\n[DEFAULT]\nxenapi_login_timeout = 4\n")

    assert [line.split(": ")[1] for line in nova_conf.unknown_options(conf)] == ["[cells] nmae"]


def test_changed_mutable_options_are_taken_over_and_others_kept(tmp_path):
    conf = load(tmp_path, "[cells]\ncall_timeout = 10\nname = before\n")
    (tmp_path / "test.conf").write_text("[DEFAULT]\ndebug = true\n[cells]\ncall_timeout = 20\nname = after\n")

    conf.mutate_config_files()

    assert (conf.debug, conf.cells.call_timeout, conf.cells.name) == (True, 20, "before")


def test_every_option_of_ours_has_a_help_text():
    without = [opt.name for _, opts in nova_conf.list_opts() for opt in opts if not opt.help]

    assert without == []


def test_passwords_are_marked_secret(tmp_path):
    conf = load(tmp_path, overrides={("xenserver", "connection_password"): "hunter2"})
    lines = []

    class Log:
        def log(self, level, text, *args):
            lines.append(text % args)

    conf.log_opt_values(Log(), 10)

    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize("arguments", [["--verbose", "--config-file", "{}"], ["--config-file={}", "list"]])
def test_the_concurrency_mode_is_known_before_anything_else_is_loaded(tmp_path, arguments):
    path = tmp_path / "threads.conf"
    path.write_text("[DEFAULT]\nconcurrency = threading\n")

    mode = nova_conf.concurrency_mode([text.format(path) for text in arguments], prog="test", config_dirs=[])

    assert mode == "threading"
