import json

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi.metrics import _last_values, average, integral, parse_updates

UPDATES = b"""<xport>
 <meta><start>0</start><step>5</step><end>20</end><rows>3</rows><columns>2</columns>
  <legend><entry>AVERAGE:vm:u-1:vif_0_tx</entry><entry>AVERAGE:vm:u-1:cpu0</entry></legend></meta>
 <data>
  <row><t>20</t><v>30.0</v><v>NaN</v></row>
  <row><t>15</t><v>NaN</v><v>0.5</v></row>
  <row><t>10</t><v>10.0</v><v>0.25</v></row>
 </data></xport>"""

RRD = b"""<rrd>
  <version>0003</version><lastupdate>1363631424.5</lastupdate>
  <ds><name>cpu0</name><type>DERIVE</type></ds><ds><name> memory </name></ds>
  <rra><cf>AVERAGE</cf><database><row><v>0.1</v><v>1.0</v></row><row><v>0.2</v><v>1073741824.0</v></row></database></rra>
  <rra><cf>AVERAGE</cf><database><row><v>9</v><v>9</v></row></database></rra>
</rrd>"""


def test_updates_are_read_oldest_first_by_column():
    tx, cpu = parse_updates(UPDATES)
    assert (tx.kind, tx.uuid, tx.name) == ("vm", "u-1", "vif_0_tx")
    assert tx.times == [10, 15, 20] and cpu.values[:2] == [0.25, 0.5]


def test_a_rate_is_integrated_and_the_unknown_counts_as_nothing():
    tx, _ = parse_updates(UPDATES)
    # 5 s at 10, then down to 0 and up to 30 in 5 s each.
    assert integral(tx, start=5) == 50 + 25 + 75
    assert integral(tx, start=5, until=10) == 50


def test_known_values_are_averaged():
    _, cpu = parse_updates(UPDATES)
    assert average(cpu) == 0.375
    assert average(cpu, until=10) == 0.25
    assert average(cpu, until=1) == 0.0


@pytest.mark.parametrize("document", [b"", b"<html>", b"<xport><data><row><t>x</t></row></data></xport>"])
def test_a_document_that_is_none_is_told(document):
    with pytest.raises(exception.CouldNotFetchMetrics):
        parse_updates(document)


def test_diagnostics_are_the_last_row_of_the_first_archive():
    assert _last_values(RRD) == {"last_update": "1363631424.5", "cpu0": "0.2", "memory": "1073741824.0"}


def test_a_host_without_metrics_costs_nothing_but_a_warning(bench):
    bench.simulator.control.fail("GET /rrd_updates", error=["INTERNAL_ERROR"])
    usage = bench.vmops.get_all_bw_usage(0)
    assert isinstance(usage, dict)
    assert isinstance(bench.driver.get_all_bw_counters([]), list)


def test_what_was_counted_before_is_not_counted_again():
    tx, _ = parse_updates(UPDATES)
    # From 10 on: unknown, then up to 30 in 5 s.
    assert integral(tx, start=10) == 75


def test_with_its_plugin_dom0_counts_what_guests_send_and_receive(bench):
    instance = bench.spawn()
    vm = bench.vm(instance)
    mac = bench.api("VIF.get_MAC", vm["VIFs"][0])
    session = bench.vmops._session
    session.plugin_version = "3.1"
    session.call_plugin = lambda plugin, function, args: json.dumps(
        {vm["domid"]: {"0": {"bw_in": 7, "bw_out": 9}, "1": {"bw_in": 1, "bw_out": 1}}, "999": {}})
    assert bench.driver.get_all_bw_counters([instance]) == [
        {"uuid": instance["uuid"], "mac_address": mac, "bw_in": 7, "bw_out": 9}]


def test_the_console_of_a_rescue_that_has_no_vm_is_not_ready(bench):
    with pytest.raises(exception.InstanceNotReady):
        bench.driver.get_vnc_console({**bench.spawn(), "vm_state": "rescued"})
