"""Volumes: the port to a volume service, and its adapters."""

from oslo_config import cfg

from nova_lite.conf import adapters
from nova_lite.volume.port import VolumeAPI

__all__ = ["VolumeAPI", "load"]


def load(conf: cfg.ConfigOpts) -> VolumeAPI:
    """Return the volume port that `volume_api_class` or `[volume] backend` names. Raises ConfigurationError."""
    if conf.volume_api_class:
        return adapters.load_class(conf.volume_api_class, conf)
    if conf.volume.backend == "none":
        from nova_lite.volume.none import NoVolumes

        return NoVolumes(conf)
    if conf.volume.backend == "local":
        from nova_lite.volume.local import LocalVolumeAPI

        return LocalVolumeAPI(conf)
    return adapters.load("nova_lite.volume", conf.volume.backend, conf)
