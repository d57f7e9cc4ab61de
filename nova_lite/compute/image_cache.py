"""Sweeping cached images, on storage that several hosts may share."""

import json
import pathlib

from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_lite import objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)

REGISTRY = "compute_nodes"
SEEN_WITHIN_S = 24 * 3600


class ImageCache:
    """Has the driver forget cached images that no instance needs, on any host that shares our storage."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def sweep(self, context: RequestContext) -> None:
        """Register this host as a user of its storage, and hand the instances of all its users to the driver."""
        hosts = self._users_of_our_storage()
        instances = objects.InstanceList.get_by_filters(context, {"host": hosts, "deleted": False,
                                                                  "soft_deleted": True})
        self._here.driver.manage_image_cache(context, list(instances))

    def _users_of_our_storage(self) -> list[str]:
        """Note that we use the instances directory now; return the hosts seen in it within a day."""
        directory = pathlib.Path(self._here.conf.instances_path)
        directory.mkdir(parents=True, exist_ok=True)
        registry = directory / REGISTRY
        with lockutils.external_lock("storage-registry-lock", lock_path=str(directory / "locks")):
            seen = _read(registry)
            seen[self._here.name] = self._here.clock.time()
            registry.write_text(json.dumps(seen))
        limit = self._here.clock.time() - SEEN_WITHIN_S
        return sorted(host for host, at in seen.items() if at >= limit)


def _read(registry: pathlib.Path) -> dict[str, float]:
    try:
        return json.loads(registry.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        LOG.warning("The registry of storage users %s is damaged and begins anew: %s", registry, error)
        return {}
