"""Copies of the pool's database on repositories: the redo log, replicas for disaster recovery, and reading them."""

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import features, is_plugged

MIB = 1024 * 1024
DISK_SIZE = 256 * MIB
MOST_REPLICAS = 8


class DatabaseReplicas(Noun):
    """No pool sees another's repositories here: every replica that can be read is one of this pool."""

    def _check_repository(self, ref: str) -> Row:
        """Raise why a repository cannot hold a copy of the database."""
        sr = self.db.row("SR", ref)
        if "SR_METADATA" not in features(sr):
            raise ApiError("SR_OPERATION_NOT_SUPPORTED", ref)
        if not is_plugged(self.db, sr, self.toolstack.master_ref):
            raise ApiError("SR_HAS_NO_PBDS", ref)
        return sr

    def _replicas(self, sr_ref: str) -> list[Row]:
        return [
            vdi for vdi in self.db.select("VDI", SR=sr_ref, type="metadata") if not is_null(vdi["metadata_of_pool"])
        ]

    # disaster recovery

    @call("SR.assert_supports_database_replication")
    def assert_supported(self, _caller, ref):
        self._check_repository(ref)

    @call("SR.enable_database_replication")
    def enable(self, _caller, ref):
        sr = self._check_repository(ref)
        self.toolstack.availability.check_disabled()
        if self._replicas(ref):
            return
        if len(list(self.db.select("VDI", type="metadata"))) >= MOST_REPLICAS:
            raise ApiError("NO_MORE_REDO_LOGS_ALLOWED")
        self.toolstack.vdis.new(
            sr, DISK_SIZE, type="metadata", name_label="Metadata for DR", metadata_of_pool=self.toolstack.pool_ref
        )

    @call("SR.disable_database_replication")
    def disable(self, _caller, ref):
        self.db.row("SR", ref)
        for vdi in self._replicas(ref):
            self.toolstack.vm_copies.remove_disk(vdi.ref)

    @call("VDI.open_database")
    def open_database(self, _caller, ref):
        vdi = self._metadata(ref)
        raise ApiError("VDI_CONTAINS_METADATA_OF_THIS_POOL", ref, vdi["metadata_of_pool"])

    @call("VDI.read_database_pool_uuid")
    def read_pool_uuid(self, _caller, ref):
        return self.db.get("pool", self._metadata(ref)["metadata_of_pool"], "uuid")

    def _metadata(self, ref: str) -> Row:
        vdi = self.db.row("VDI", ref)
        if vdi["type"] != "metadata":
            raise ApiError("VDI_INCOMPATIBLE_TYPE", ref, vdi["type"])
        if is_null(vdi["metadata_of_pool"]):
            raise ApiError("COULD_NOT_IMPORT_DATABASE", "the disk holds no database")
        return vdi

    # VMs out of a replica

    def _repositories_of(self, ref: str) -> list[Row]:
        vbds = (self.db.row("VBD", vbd_ref) for vbd_ref in self.db.get("VM", ref, "VBDs"))
        srs = dict.fromkeys(self.db.get("VDI", vbd["VDI"], "SR") for vbd in vbds if not vbd["empty"])
        return [self.db.row("SR", sr_ref) for sr_ref in srs]

    @call("VM.get_SRs_required_for_recovery")
    def get_required_repositories(self, _caller, ref, session_to):
        self.db.row("session", session_to)
        return [sr.ref for sr in self._repositories_of(ref)]

    @call("VM.assert_can_be_recovered")
    def assert_can_be_recovered(self, _caller, ref, session_to):
        self.db.row("session", session_to)
        vm = self.db.row("VM", ref)
        if not is_null(vm["appliance"]):
            raise ApiError("VM_IS_PART_OF_AN_APPLIANCE", ref, vm["appliance"])
        for sr in self._repositories_of(ref):
            if not is_plugged(self.db, sr):
                raise ApiError("VM_REQUIRES_SR", ref, sr.ref)

    @call("VM.recover")
    def recover(self, caller, ref, session_to, _force):
        self.assert_can_be_recovered(caller, ref, session_to)
        version = str(self.db.get("VM", ref, "version"))
        raise ApiError("VM_TO_IMPORT_IS_NOT_NEWER_VERSION", ref, version, version)

    # redo log

    @call("pool.enable_redo_log")
    def enable_redo_log(self, _caller, ref):
        if self.db.get("pool", self.toolstack.pool_ref, "redo_log_enabled"):
            raise ApiError("REDO_LOG_IS_ENABLED")
        self.toolstack.availability.check_disabled()
        sr = self._check_repository(ref)
        vdi_ref = self.toolstack.vdis.new(sr, DISK_SIZE, type="redo_log", name_label="Metadata redo-log")
        self.db.set("pool", self.toolstack.pool_ref, redo_log_enabled=True, redo_log_vdi=vdi_ref)

    @call("pool.disable_redo_log")
    def disable_redo_log(self, _caller):
        vdi_ref = self.db.get("pool", self.toolstack.pool_ref, "redo_log_vdi")
        self.db.set("pool", self.toolstack.pool_ref, redo_log_enabled=False, redo_log_vdi=NULL)
        if self.db.find("VDI", vdi_ref):
            self.toolstack.vm_copies.remove_disk(vdi_ref)
