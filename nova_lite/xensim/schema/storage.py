"""Storage repositories, disks and how they are attached."""

TEXT = """
class SR events
  uuid ro string
  name_label st string = ""
  name_description st string = ""
  allowed_operations ro set(%storage_operations) volatile = []
  current_operations ro map(string,%storage_operations) volatile = {}
  VDIs ro set(@VDI)
  PBDs ro set(@PBD)
  virtual_allocation ro int
  physical_utilisation ro int
  physical_size st int
  type st string
  content_type st string
  shared ro bool
  other_config rw map(string,string)
  tags rw set(string) = []
  default_vdi_visibility ro bool internal
  sm_config rw map(string,string) = {}
  blobs ro map(string,@blob) = {}
  local_cache_enabled ro bool = false
  introduced_by ro @DR_task = "OpaqueRef:NULL"
  clustered ro bool = false
  is_tools_sr ro bool = false
  create(host: @host, device_config: map(string,string), physical_size: int, name_label: string,
      name_description: string, type: string, content_type: string, shared: bool, sm_config:
      map(string,string) = {}) -> @SR
  introduce(uuid: string, name_label: string, name_description: string, type: string, content_type: string,
      shared: bool, sm_config: map(string,string) = {}) -> @SR
  make(host: @host, device_config: map(string,string), physical_size: int, name_label: string,
      name_description: string, type: string, content_type: string, sm_config: map(string,string) = {}) ->
      string
  destroy(sr: @SR)
  forget(sr: @SR)
  update(sr: @SR)
  get_supported_types() -> set(string) sync
  scan(sr: @SR)
  probe(host: @host, device_config: map(string,string), type: string, sm_config: map(string,string) = {}) ->
      string
  probe_ext(host: @host, device_config: map(string,string), type: string, sm_config: map(string,string) = {})
      -> set(record probe_result)
  set_shared(sr: @SR, value: bool)
  set_name_label(sr: @SR, value: string)
  set_name_description(sr: @SR, value: string)
  create_new_blob(sr: @SR, name: string, mime_type: string, public: bool = false) -> @blob
  set_physical_size(self: @SR, value: int) sync
  set_virtual_allocation(self: @SR, value: int) sync
  set_physical_utilisation(self: @SR, value: int) sync
  assert_can_host_ha_statefile(sr: @SR)
  assert_supports_database_replication(sr: @SR)
  enable_database_replication(sr: @SR)
  disable_database_replication(sr: @SR)
  get_data_sources(sr: @SR) -> set(record data_source) sync
  record_data_source(sr: @SR, data_source: string) sync
  query_data_source(sr: @SR, data_source: string) -> float sync
  forget_data_source_archives(sr: @SR, data_source: string) sync

class VDI events constructed
  uuid ro string
  name_label st string = ""
  name_description st string = ""
  allowed_operations ro set(%vdi_operations) volatile = []
  current_operations ro map(string,%vdi_operations) volatile = {}
  SR st @SR
  VBDs ro set(@VBD)
  crash_dumps ro set(@crashdump)
  virtual_size st int
  physical_utilisation ro int
  type st %vdi_type
  sharable st bool
  read_only st bool
  other_config rw map(string,string)
  storage_lock ro bool
  location ro string = ""
  managed ro bool
  missing ro bool
  parent ro @VDI
  xenstore_data rw map(string,string) = {}
  sm_config rw map(string,string) = {}
  is_a_snapshot ro bool = false
  snapshot_of ro @VDI = ""
  snapshots ro set(@VDI)
  snapshot_time ro datetime = "19700101T00:00:00Z"
  tags rw set(string) = []
  allow_caching ro bool = false
  on_boot ro %on_boot = "persist"
  metadata_of_pool ro @pool = "OpaqueRef:NULL"
  metadata_latest ro bool = false
  is_tools_iso ro bool = false
  cbt_enabled ro bool = false
  snapshot(vdi: @VDI, driver_params: map(string,string) = {}) -> @VDI
  clone(vdi: @VDI, driver_params: map(string,string) = {}) -> @VDI
  resize(vdi: @VDI, size: int)
  resize_online(vdi: @VDI, size: int) removed
  introduce(uuid: string, name_label: string, name_description: string, SR: @SR, type: %vdi_type, sharable:
      bool, read_only: bool, other_config: map(string,string), location: string, xenstore_data:
      map(string,string) = {}, sm_config: map(string,string) = {}, managed: bool = true, virtual_size: int =
      0, physical_utilisation: int = 0, metadata_of_pool: @pool = "", is_a_snapshot: bool = false,
      snapshot_time: datetime = "19700101T00:00:00Z", snapshot_of: @VDI = "") -> @VDI
  pool_introduce(uuid: string, name_label: string, name_description: string, SR: @SR, type: %vdi_type,
      sharable: bool, read_only: bool, other_config: map(string,string), location: string, xenstore_data:
      map(string,string) = {}, sm_config: map(string,string) = {}, managed: bool = true, virtual_size: int =
      0, physical_utilisation: int = 0, metadata_of_pool: @pool = "", is_a_snapshot: bool = false,
      snapshot_time: datetime = "19700101T00:00:00Z", snapshot_of: @VDI = "", cbt_enabled: bool = false) ->
      @VDI
  db_introduce(uuid: string, name_label: string, name_description: string, SR: @SR, type: %vdi_type, sharable:
      bool, read_only: bool, other_config: map(string,string), location: string, xenstore_data:
      map(string,string) = {}, sm_config: map(string,string) = {}, managed: bool = true, virtual_size: int =
      0, physical_utilisation: int = 0, metadata_of_pool: @pool = "", is_a_snapshot: bool = false,
      snapshot_time: datetime = "19700101T00:00:00Z", snapshot_of: @VDI = "", cbt_enabled: bool = false) ->
      @VDI
  db_forget(vdi: @VDI)
  update(vdi: @VDI)
  copy(vdi: @VDI, sr: @SR = "OpaqueRef:NULL", base_vdi: @VDI = "OpaqueRef:NULL", into_vdi: @VDI =
      "OpaqueRef:NULL") -> @VDI
  force_unlock(vdi: @VDI)
  set_managed(self: @VDI, value: bool) sync
  forget(vdi: @VDI)
  set_sharable(self: @VDI, value: bool) sync
  set_read_only(self: @VDI, value: bool) sync
  set_missing(self: @VDI, value: bool) sync
  set_virtual_size(self: @VDI, value: int) sync
  set_physical_utilisation(self: @VDI, value: int) sync
  set_is_a_snapshot(self: @VDI, value: bool) sync
  set_snapshot_of(self: @VDI, value: @VDI) sync
  set_snapshot_time(self: @VDI, value: datetime) sync
  set_name_label(self: @VDI, value: string)
  set_name_description(self: @VDI, value: string)
  generate_config(host: @host, vdi: @VDI) -> string
  set_on_boot(self: @VDI, value: %on_boot)
  set_allow_caching(self: @VDI, value: bool)
  open_database(self: @VDI) -> @session
  checksum(self: @VDI) -> string
  read_database_pool_uuid(self: @VDI) -> string
  pool_migrate(vdi: @VDI, sr: @SR, options: map(string,string)) -> @VDI
  enable_cbt(self: @VDI)
  disable_cbt(self: @VDI)
  data_destroy(self: @VDI)
  list_changed_blocks(vdi_from: @VDI, vdi_to: @VDI) -> string
  get_nbd_info(self: @VDI) -> set(record vdi_nbd_server_info) sync
  revert(snapshot: @VDI)

class VBD events constructed
  uuid ro string
  allowed_operations ro set(%vbd_operations) volatile = []
  current_operations ro map(string,%vbd_operations) volatile = {}
  VM st @VM
  VDI st @VDI
  device st string = ""
  userdevice rw string
  bootable rw bool
  mode st %vbd_mode
  type rw %vbd_type
  unpluggable rw bool = true
  storage_lock ro bool
  empty st bool
  reserved ro bool internal = false
  other_config rw map(string,string)
  currently_attached st bool = false
  status_code ro int
  status_detail ro string
  runtime_properties ro map(string,string)
  qos_algorithm_type rw string
  qos_algorithm_params rw map(string,string)
  qos_supported_algorithms ro set(string)
  metrics ro @VBD_metrics = "OpaqueRef:NULL"
  eject(vbd: @VBD)
  insert(vbd: @VBD, vdi: @VDI)
  plug(self: @VBD)
  unplug(self: @VBD)
  unplug_force(self: @VBD)
  assert_attachable(self: @VBD)
  pause(self: @VBD) -> string
  unpause(self: @VBD, token: string = "")
  set_mode(self: @VBD, value: %vbd_mode)

class VBD_metrics events volatile
  uuid ro string
  io_read_kbs ro float = 0
  io_write_kbs ro float = 0
  last_updated ro datetime = "19700101T00:00:00Z"
  other_config rw map(string,string) = {}

class PBD events constructed
  uuid ro string
  host st @host
  SR st @SR
  device_config st map(string,string)
  currently_attached ro bool
  other_config rw map(string,string) = {}
  plug(self: @PBD)
  unplug(self: @PBD)
  set_device_config(self: @PBD, value: map(string,string))

class SM events
  uuid ro string
  name_label ro string = ""
  name_description ro string = ""
  type ro string
  vendor ro string
  copyright ro string
  version ro string
  required_api_version ro string
  configuration ro map(string,string)
  capabilities ro set(string) = []
  features ro map(string,int) = {}
  host_pending_features ro map(@host,set(string)) internal = {}
  other_config rw map(string,string) = {}
  driver_filename ro string = ""
  required_cluster_stack ro set(string) = []
  supported_image_formats ro set(%image_format_type) = []
"""
