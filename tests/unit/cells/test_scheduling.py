"""Filters and weighers, without a tree."""

import datetime

import pytest

from nova_lite import concurrency, context
from nova_lite.cells import filters, plugins, weights
from nova_lite.cells.filters.capacity import CapacityFilter
from nova_lite.cells.filters.different_cell import DifferentCellFilter
from nova_lite.cells.filters.image_properties import ImagePropertiesFilter
from nova_lite.cells.filters.target_cell import TargetCellFilter
from nova_lite.cells.state import CellState
from nova_lite.cells.weights.mute_child import MuteChildWeigher
from nova_lite.cells.weights.ram_by_instance_type import RamByInstanceTypeWeigher
from nova_lite.cells.weights.weight_offset import WeightOffsetWeigher
from tests.fixtures.services import load_conf

UNITS = {"cell1": (1, 4, 3), "cell2": (2, 3, 4), "cell3": (3, 2, 1), "cell4": (4, 1, 2)}


def services(**overrides):
    conf = load_conf({("cells", name): value for name, value in overrides.items()})
    return context.Services(conf=conf, clock=concurrency.Clock())


def cell(name, where=None, is_me=False, offset=0.0, capabilities=None):
    state = CellState(name, is_me=is_me, services=where or services())
    state.update_db_info({"name": name, "weight_offset": offset})
    small, medium, large = UNITS.get(name, (0, 0, 0))
    state.update_capacities({"ram_free": {"total_mb": 1, "units_by_mb": {
        "512": small, "1024": medium, "2048": large}}})
    state.update_capabilities(capabilities or {})
    return state


def admin():
    return context.RequestContext(user_id="u", project_id="p", is_admin=True)


def user():
    return context.RequestContext(user_id="u", project_id="p", is_admin=False)


def order(weighers, cells, properties=None):
    return [state.name for _weight, state in weights.weigh(cells, weighers, properties or {})]


@pytest.mark.parametrize(("memory_mb", "expected"), [(512, "4321"), (1024, "1234"), (2048, "2143"), (99, "1234")])
def test_cells_with_more_room_for_the_size_come_first(memory_mb, expected):
    where = services()
    properties = {"request_spec": {"instance_type": {"memory_mb": memory_mb}}}

    names = order([RamByInstanceTypeWeigher(where.conf)], [cell(name, where) for name in UNITS], properties)

    assert names == [f"cell{digit}" for digit in expected]


@pytest.mark.parametrize(("memory_mb", "expected"), [(512, "1234"), (1024, "4321"), (2048, "3412")])
def test_a_negative_multiplier_fills_cells_up(memory_mb, expected):
    where = services(ram_weight_multiplier=-10.0)
    properties = {"request_spec": {"instance_type": {"memory_mb": memory_mb}}}

    names = order([RamByInstanceTypeWeigher(where.conf)], [cell(name, where) for name in UNITS], properties)

    assert names == [f"cell{digit}" for digit in expected]


def test_offsets_of_operators_decide():
    where = services()
    offsets = {"cell1": -200.0, "cell2": -200.1, "cell3": 400.0, "cell4": 300.0}

    cells = [cell(name, where, offset=offset) for name, offset in offsets.items()]

    assert order([WeightOffsetWeigher(where.conf)], cells) == ["cell3", "cell4", "cell1", "cell2"]


def test_mute_cells_come_last():
    where = services(mute_weight_multiplier=-10.0)
    cells = [cell(name, where) for name in UNITS]
    for mute in cells[:2]:
        mute.last_seen = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    weighed = {state.name: weight for weight, state in weights.weigh(cells, [MuteChildWeigher(where.conf)], {})}

    assert weighed == {"cell1": -10.0, "cell2": -10.0, "cell3": 0.0, "cell4": 0.0}


def test_D18_a_request_is_weighed_by_itself():
    where = services()
    weigher = WeightOffsetWeigher(where.conf)
    weights.weigh([cell("a", where, offset=-1000.0), cell("b", where, offset=1000.0)], [weigher], {})

    weighed = weights.weigh([cell("a", where, offset=1.0), cell("b", where, offset=2.0)], [weigher], {})

    assert [weight for weight, _state in weighed] == [1.0, 0.0]


def test_a_single_cell_is_not_weighed():
    assert weights.weigh([cell("a")], [], {})[0][0] == 0.0


class Sent:
    """A scheduler that only notes what it is told to send."""

    def __init__(self, ours):
        self.builds = []
        self.state_manager = self
        self._ours = ours

    def get_my_state(self):
        return self._ours

    def send_build(self, ctxt, target, kwargs):
        self.builds.append((target, kwargs))


def properties_for(hints, ctxt=None, **more):
    return {"scheduler_hints": hints, "context": ctxt or admin(), "routing_path": "api!c1",
            "scheduler": Sent(cell("c1", is_me=True)), "host_sched_kwargs": {"instances": []}, **more}


def test_a_target_cell_gets_the_build_and_the_filter_has_handled_it():
    properties = properties_for({"target_cell": "api!c1!gc1", "other": 1})

    assert TargetCellFilter(services()).filter_all([cell("gc1")], properties) is None

    assert properties["scheduler"].builds == [("api!c1!gc1", {"instances": []})]
    assert properties["scheduler_hints"] == {"other": 1}


def test_the_cell_itself_as_target_leaves_only_itself():
    properties = properties_for({"target_cell": "api!c1"})

    [left] = TargetCellFilter(services()).filter_all([cell("gc1")], properties)

    assert left is properties["scheduler"].get_my_state()


def test_an_ordinary_user_cannot_choose_a_cell_and_the_hint_goes_no_further():
    properties = properties_for({"target_cell": "api!c1!gc1"}, user())
    cells = [cell("gc1"), cell("gc2")]

    assert TargetCellFilter(services()).filter_all(cells, properties) == cells
    assert properties["scheduler_hints"] == {}
    assert properties["scheduler"].builds == []


@pytest.mark.parametrize(("hint", "left"), [
    ("api!c1!gc1", ["gc2", "c1"]), (["api!c1!gc2", "api!c1"], ["gc1"]), ("gc1", ["gc1", "gc2", "c1"])])
def test_cells_named_as_different_are_left_out(hint, left):
    cells = [cell("gc1"), cell("gc2"), cell("c1", is_me=True)]

    passed = DifferentCellFilter(services()).filter_all(cells, properties_for({"different_cell": hint}))

    assert [state.name for state in passed] == left


@pytest.mark.parametrize(("version", "required", "passes"), [
    ("6.0", ">6.0, <=6.3", False), ("6.1", ">6.0, <=6.3", True), ("6.3", ">6.0, <=6.3", True),
    ("6.10", "<=6.3", False), ("6.0", "==6", True), ("6.2", "!=6.2", False), ("6.2", "nonsense!", False),
    (None, ">9", True), ("6.2", None, True)])
def test_an_image_can_require_a_version_of_the_hypervisor(version, required, passes):
    versions = {"prominent_hypervisor_version": {version}} if version else {"prominent_hypervisor_version": set()}
    state = cell("a", capabilities=versions)
    before = {name: set(values) for name, values in versions.items()}
    image = {"properties": {"hypervisor_version_requires": required}} if required else {}

    passed = ImagePropertiesFilter(services()).filter_all([state], {"request_spec": {"image": image}})

    assert bool(passed) is passes
    assert state.capabilities == before


def with_units(ram=None, disk=None):
    state = cell("a")
    state.update_capacities({
        kind: {"total_mb": 1, "units_by_mb": {str(slot_mb): units}}
        for kind, slot_mb, units in (("ram_free", 512, ram), ("disk_free", 10240, disk)) if units is not None})
    return state


@pytest.mark.parametrize(("ram", "disk", "count", "passes"), [
    (3, 3, 3, True), (3, 2, 3, False), (2, 3, 3, False), (0, 9, 1, False), (9, 0, 1, False), (None, None, 9, True),
    (1, None, 1, True), (None, 0, 1, False)])
def test_D16b_a_cell_must_have_room_for_all_instances_of_a_request(ram, disk, count, passes):
    spec = {"instance_type": {"memory_mb": 512, "root_gb": 9, "ephemeral_gb": 1}, "num_instances": count}

    passed = CapacityFilter(services()).filter_all([with_units(ram, disk)], {"request_spec": spec})

    assert bool(passed) is passes


@pytest.mark.parametrize("flavor", [{"memory_mb": 513, "root_gb": 11}, {"memory_mb": 513, "root_gb": 0}])
def test_D16b_a_size_that_a_cell_has_not_reported_passes(flavor):
    spec = {"instance_type": flavor, "num_instances": 1}

    assert CapacityFilter(services()).filter_all([with_units(0, 0)], {"request_spec": spec})


def test_all_filters_and_all_weighers_are_found():
    found = plugins.load_classes(["nova.cells.filters.all_filters"], filters.BaseCellFilter)
    assert {cls.__name__ for cls in found} == {"CapacityFilter", "TargetCellFilter", "DifferentCellFilter",
                                              "ImagePropertiesFilter"}
    found = plugins.load_classes(["nova_lite.cells.weights.all_weighers"], weights.BaseCellWeigher)
    assert {cls.__name__ for cls in found} == {"RamByInstanceTypeWeigher", "WeightOffsetWeigher", "MuteChildWeigher"}
