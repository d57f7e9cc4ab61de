"""What an instance has of the network, in its info cache."""

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import InstanceInfoCache
from nova_lite.objects import network_model as model

LOG = logging.getLogger(__name__)


def save(context: RequestContext, instance_uuid: str, info: model.NetworkInfo, update_cells: bool,
         before: str | None = None) -> None:
    """Bring the info cache up to date, telling the cells above if `update_cells`; one that is gone is left alone.

    What is there already is written only to be told. `before` is its text, where it has just been read.
    """
    try:
        if not update_cells:
            before = before or InstanceInfoCache.get_by_instance_uuid(context, instance_uuid).network_info_text()
            if before == info.json():
                return
        InstanceInfoCache(context, instance_uuid=instance_uuid, network_info=info).save(update_cells=update_cells)
    except exception.InstanceInfoCacheNotFound:
        LOG.debug("Instance %s has no info cache any more", instance_uuid)
