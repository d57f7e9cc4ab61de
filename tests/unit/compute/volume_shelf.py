"""A volume service in memory."""

import uuid

from nova_lite import exception
from nova_lite.volume import VolumeAPI


class VolumeShelf(VolumeAPI):
    """Volumes with their states; `connections` are (volume, host) pairs."""

    def __init__(self):
        self.volumes = {}
        self.connections = set()
        self.looks_until_created = 0

    def add(self, status="available"):
        volume_id = str(uuid.uuid4())
        self.volumes[volume_id] = {"id": volume_id, "status": status, "instance_uuid": None, "mountpoint": None}
        return volume_id

    def get(self, context, volume_id):
        try:
            volume = self.volumes[volume_id]
        except KeyError:
            raise exception.VolumeNotFound(volume_id=volume_id) from None
        if volume["status"] == "creating":
            self.looks_until_created -= 1
            if self.looks_until_created <= 0:
                volume["status"] = "available"
        return dict(volume)

    def create(self, context, size, name, description, snapshot=None, image_id=None, volume_type=None, metadata=None,
               availability_zone=None):
        return self.get(context, self.add("creating" if self.looks_until_created else "available"))

    def delete(self, context, volume_id):
        self.get(context, volume_id)
        del self.volumes[volume_id]

    def check_attach(self, context, volume, instance=None):
        if volume["status"] not in ("available", "attaching"):
            raise exception.InvalidVolume(reason=f"status is {volume['status']}")

    def check_detach(self, context, volume):
        if volume["status"] == "available":
            raise exception.InvalidVolume(reason="already detached")

    def _set(self, volume_id, status):
        self.volumes[volume_id]["status"] = status

    def reserve_volume(self, context, volume_id):
        self._set(volume_id, "attaching")

    def unreserve_volume(self, context, volume_id):
        self._set(volume_id, "available")

    def begin_detaching(self, context, volume_id):
        self._set(volume_id, "detaching")

    def roll_detaching(self, context, volume_id):
        self._set(volume_id, "in-use")

    def attach(self, context, volume, instance_uuid, mountpoint):
        self.volumes[volume["id"]].update(status="in-use", instance_uuid=instance_uuid, mountpoint=mountpoint)

    def detach(self, context, volume):
        self.volumes[volume["id"]].update(status="available", instance_uuid=None, mountpoint=None)

    def initialize_connection(self, context, volume, connector):
        self.connections.add((volume["id"], connector["host"]))
        return {"driver_volume_type": "iscsi", "data": {"volume_id": volume["id"], "target_lun": 1}}

    def terminate_connection(self, context, volume, connector):
        self.connections.discard((volume["id"], connector["host"]))

    def get_snapshot(self, context, snapshot_id):
        return {"id": snapshot_id, "volume_id": None, "volume_size": 1, "status": "available", "display_name": ""}

    def create_snapshot_force(self, context, volume, name, description):
        return self.get_snapshot(context, str(uuid.uuid4()))
