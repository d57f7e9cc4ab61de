"""Networks: the port to a network service, and its adapters."""

from oslo_config import cfg

from nova_lite.conf import adapters
from nova_lite.network.port import NetworkAPI

__all__ = ["NetworkAPI", "load"]


def load(conf: cfg.ConfigOpts) -> NetworkAPI:
    """Return the network port that `network_api_class` or `[network] backend` names. Raises ConfigurationError."""
    if conf.network_api_class:
        return adapters.load_class(conf.network_api_class, conf)
    if conf.network.backend == "local":
        from nova_lite.network.local import LocalNetworkAPI

        return LocalNetworkAPI(conf)
    return adapters.load("nova_lite.network", conf.network.backend, conf)
