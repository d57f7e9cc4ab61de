"""Images: the port the compute layer and the hypervisor drivers work with, and its adapters."""

from oslo_config import cfg

from nova_lite.conf import adapters
from nova_lite.image.port import ImageAPI
from nova_lite.image.router import ImageRouter

__all__ = ["ImageAPI", "load"]


def load(conf: cfg.ConfigOpts) -> ImageAPI:
    """Return the image port that `[image] backend` names, with http(s) addresses served beside it.

    Raises ConfigurationError when there is no such backend.
    """
    from nova_lite.image.http import HttpImageAPI

    return ImageRouter(store=_backend(conf), addresses=HttpImageAPI())


def _backend(conf: cfg.ConfigOpts) -> ImageAPI:
    if conf.image.backend == "local":
        from nova_lite.image.local import LocalImageAPI

        return LocalImageAPI(conf)
    return adapters.load("nova_lite.image", conf.image.backend, conf)
