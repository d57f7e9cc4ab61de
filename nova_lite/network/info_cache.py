"""What an instance has of the network, in its info cache."""

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import InstanceInfoCache
from nova_lite.objects import network_model as model

LOG = logging.getLogger(__name__)


def save(context: RequestContext, instance_uuid: str, info: model.NetworkInfo, update_cells: bool) -> None:
    """Bring the info cache up to date, telling the cells above if `update_cells`; one that is gone is left alone."""
    try:
        cache = InstanceInfoCache.get_by_instance_uuid(context, instance_uuid)
    except exception.InstanceInfoCacheNotFound:
        LOG.debug("Instance %s has no info cache any more", instance_uuid)
        return
    if update_cells or cache.network_info_text() != info.json():
        cache.network_info = info
        cache.save(update_cells=update_cells)
