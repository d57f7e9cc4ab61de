"""A deployment without a volume service."""

import pytest

from nova_lite import context, exception, volume
from tests.fixtures.services import load_conf

CTXT = context.get_admin_context()


@pytest.fixture
def volumes():
    return volume.load(load_conf())


def test_no_volume_is_found(volumes):
    with pytest.raises(exception.VolumeNotFound, match="v1"):
        volumes.get(CTXT, "v1")


def test_no_snapshot_is_found(volumes):
    with pytest.raises(exception.SnapshotNotFound):
        volumes.get_snapshot(CTXT, "s1")


def test_making_a_volume_is_refused_with_the_reason(volumes):
    with pytest.raises(exception.InvalidVolume, match="no volume service"):
        volumes.create(CTXT, 1, "name", "description")


def test_an_unknown_backend_is_an_operators_mistake():
    conf = load_conf({("volume", "backend"): "elsewhere"})

    with pytest.raises(exception.ConfigurationError, match="elsewhere"):
        volume.load(conf)


def test_a_class_may_be_named_instead_of_a_backend():
    conf = load_conf({(None, "volume_api_class"): "nova.volume.none.NoVolumes"})

    assert type(volume.load(conf)).__name__ == "NoVolumes"
