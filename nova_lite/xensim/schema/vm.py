"""Virtual machines, their metrics, consoles, TPMs and blobs."""

TEXT = """
class VM events constructed
  uuid ro string
  allowed_operations ro set(%vm_operations) volatile = []
  current_operations ro map(string,%vm_operations) volatile = {}
  name_label rw string = ""
  name_description rw string = ""
  power_state st %vm_power_state = "Halted"
  user_version rw int
  is_a_template rw bool
  is_default_template ro bool = false
  suspend_VDI st @VDI = "OpaqueRef:NULL"
  resident_on ro @host
  scheduled_to_be_resident_on ro @host = "OpaqueRef:NULL"
  affinity rw @host
  memory_overhead ro int = 0
  memory_target st int = 0
  memory_static_max st int
  memory_dynamic_max st int
  memory_dynamic_min st int
  memory_static_min st int
  VCPUs_params rw map(string,string)
  VCPUs_max st int
  VCPUs_at_startup st int
  actions_after_softreboot rw %on_softreboot_behavior = "soft_reboot"
  actions_after_shutdown rw %on_normal_exit
  actions_after_reboot rw %on_normal_exit
  actions_after_crash st %on_crash_behaviour
  consoles ro set(@console)
  VIFs ro set(@VIF)
  VBDs ro set(@VBD)
  VUSBs ro set(@VUSB)
  crash_dumps ro set(@crashdump)
  VTPMs ro set(@VTPM)
  PV_bootloader rw string
  PV_kernel rw string
  PV_ramdisk rw string
  PV_args rw string
  PV_bootloader_args rw string
  PV_legacy_args rw string
  HVM_boot_policy st string
  HVM_boot_params rw map(string,string)
  HVM_shadow_multiplier st float = 1
  platform st map(string,string)
  PCI_bus rw string
  other_config st map(string,string)
  domid ro int
  domarch ro string
  last_boot_CPU_flags st map(string,string) = {}
  is_control_domain ro bool
  metrics ro @VM_metrics
  guest_metrics ro @VM_guest_metrics
  last_booted_record st string = ""
  recommendations rw string
  xenstore_data rw map(string,string) = {}
  ha_always_run st bool = false
  ha_restart_priority st string = ""
  is_a_snapshot ro bool = false
  snapshot_of ro @VM = ""
  snapshots ro set(@VM)
  snapshot_time ro datetime = "19700101T00:00:00Z"
  transportable_snapshot_id ro string = ""
  blobs ro map(string,@blob) = {}
  tags rw set(string) = []
  blocked_operations st map(%vm_operations,string) = {}
  snapshot_info ro map(string,string) = {}
  snapshot_metadata ro string = ""
  parent ro @VM = ""
  children ro set(@VM)
  bios_strings ro map(string,string) = {}
  protection_policy st @VMPP = "OpaqueRef:NULL"
  is_snapshot_from_vmpp st bool = false
  snapshot_schedule st @VMSS = "OpaqueRef:NULL"
  is_vmss_snapshot st bool = false
  appliance st @VM_appliance = "OpaqueRef:NULL"
  start_delay st int = 0
  shutdown_delay st int = 0
  order st int = 0
  VGPUs ro set(@VGPU)
  attached_PCIs ro set(@PCI)
  suspend_SR rw @SR = "OpaqueRef:NULL"
  version st int = 0
  generation_id st string = "0:0"
  hardware_platform_version rw int = 0
  has_vendor_device st bool = true
  requires_reboot ro bool = false
  reference_label st string = ""
  domain_type st %domain_type = "unspecified"
  NVRAM st map(string,string) = {}
  pending_guidances ro set(%update_guidances) = []
  recommended_guidances ro set(%update_guidances) internal = []
  pending_guidances_recommended ro set(%update_guidances) = []
  pending_guidances_full ro set(%update_guidances) = []
  groups ro set(@VM_group)
  secureboot_certificates_state ro %vm_secureboot_certificates_state = "ok"
  snapshot(vm: @VM, new_name: string, ignore_vdis: set(@VDI) = []) -> @VM
  snapshot_with_quiesce(vm: @VM, new_name: string) -> @VM removed
  clone(vm: @VM, new_name: string) -> @VM
  copy(vm: @VM, new_name: string, sr: @SR) -> @VM
  revert(snapshot: @VM)
  checkpoint(vm: @VM, new_name: string) -> @VM
  provision(vm: @VM)
  start(vm: @VM, start_paused: bool, force: bool)
  start_on(vm: @VM, host: @host, start_paused: bool, force: bool)
  pause(vm: @VM)
  unpause(vm: @VM)
  clean_shutdown(vm: @VM)
  shutdown(vm: @VM)
  clean_reboot(vm: @VM)
  hard_shutdown(vm: @VM)
  power_state_reset(vm: @VM)
  hard_reboot(vm: @VM)
  suspend(vm: @VM)
  resume(vm: @VM, start_paused: bool, force: bool)
  resume_on(vm: @VM, host: @host, start_paused: bool, force: bool)
  pool_migrate(vm: @VM, host: @host, options: map(string,string))
  set_VCPUs_number_live(self: @VM, nvcpu: int)
  add_to_VCPUs_params_live(self: @VM, key: string, value: string)
  set_NVRAM(self: @VM, value: map(string,string)) sync
  add_to_NVRAM(self: @VM, key: string, value: string) sync
  remove_from_NVRAM(self: @VM, key: string) sync
  set_ha_restart_priority(self: @VM, value: string) sync
  set_ha_always_run(self: @VM, value: bool) sync
  compute_memory_overhead(vm: @VM) -> int
  set_memory_dynamic_max(self: @VM, value: int) sync
  set_memory_dynamic_min(self: @VM, value: int) sync
  set_memory_dynamic_range(self: @VM, min: int, max: int)
  set_memory_static_max(self: @VM, value: int) sync
  set_memory_static_min(self: @VM, value: int) sync
  set_memory_static_range(self: @VM, min: int, max: int)
  set_memory_limits(self: @VM, static_min: int, static_max: int, dynamic_min: int, dynamic_max: int)
  set_memory(self: @VM, value: int)
  set_memory_target_live(self: @VM, target: int)
  wait_memory_target_live(self: @VM)
  get_cooperative(self: @VM) -> bool
  set_HVM_shadow_multiplier(self: @VM, value: float) sync
  set_shadow_multiplier_live(self: @VM, multiplier: float)
  set_VCPUs_max(self: @VM, value: int) sync
  set_VCPUs_at_startup(self: @VM, value: int) sync
  send_sysrq(vm: @VM, key: string)
  send_trigger(vm: @VM, trigger: string)
  maximise_memory(self: @VM, total: int, approximate: bool) -> int
  migrate_send(vm: @VM, dest: map(string,string), live: bool, vdi_map: map(@VDI,@SR), vif_map:
      map(@VIF,@network), options: map(string,string), vgpu_map: map(@VGPU,@GPU_group) = {}, vdi_format_map:
      map(@VDI,string) = {}) -> @VM
  assert_can_migrate(vm: @VM, dest: map(string,string), live: bool, vdi_map: map(@VDI,@SR), vif_map:
      map(@VIF,@network), options: map(string,string), vgpu_map: map(@VGPU,@GPU_group) = {})
  get_boot_record(self: @VM) -> record VM sync
  get_data_sources(self: @VM) -> set(record data_source) sync
  record_data_source(self: @VM, data_source: string) sync
  query_data_source(self: @VM, data_source: string) -> float sync
  forget_data_source_archives(self: @VM, data_source: string) sync
  assert_operation_valid(self: @VM, op: %vm_operations)
  update_allowed_operations(self: @VM)
  get_allowed_VBD_devices(vm: @VM) -> set(string) sync
  get_allowed_VIF_devices(vm: @VM) -> set(string) sync
  get_possible_hosts(vm: @VM) -> set(@host)
  assert_can_boot_here(self: @VM, host: @host)
  atomic_set_resident_on(vm: @VM, host: @host) internal
  create_new_blob(vm: @VM, name: string, mime_type: string, public: bool = false) -> @blob
  assert_agile(self: @VM)
  retrieve_wlb_recommendations(vm: @VM) -> map(@host,set(string))
  set_bios_strings(self: @VM, value: map(string,string))
  copy_bios_strings(vm: @VM, host: @host)
  set_protection_policy(self: @VM, value: @VMPP) sync removed
  set_snapshot_schedule(self: @VM, value: @VMSS) sync
  set_start_delay(self: @VM, value: int)
  set_shutdown_delay(self: @VM, value: int)
  set_order(self: @VM, value: int)
  set_suspend_VDI(self: @VM, value: @VDI)
  assert_can_be_recovered(self: @VM, session_to: @session)
  get_SRs_required_for_recovery(self: @VM, session_to: @session) -> set(@SR)
  recover(self: @VM, session_to: @session, force: bool)
  import_convert(type: string, username: string, password: string, sr: @SR, remote_config: map(string,string))
  set_appliance(self: @VM, value: @VM_appliance)
  set_groups(self: @VM, value: set(@VM_group))
  query_services(self: @VM) -> map(string,string)
  call_plugin(vm: @VM, plugin: string, fn: string, args: map(string,string)) -> string
  call_host_plugin(vm: @VM, plugin: string, fn: string, args: map(string,string)) -> string
  set_has_vendor_device(self: @VM, value: bool)
  import(url: string, sr: @SR, full_restore: bool, force: bool) -> set(@VM)
  set_actions_after_crash(self: @VM, value: %on_crash_behaviour)
  set_domain_type(self: @VM, value: %domain_type) sync
  set_HVM_boot_policy(self: @VM, value: string) sync
  restart_device_models(self: @VM)
  set_uefi_mode(self: @VM, mode: %vm_uefi_mode) -> string
  get_secureboot_readiness(self: @VM) -> %vm_secureboot_readiness
  update_secureboot_certificates_on_boot(self: @VM, mark: bool)
  set_blocked_operations(self: @VM, value: map(%vm_operations,string))
  add_to_blocked_operations(self: @VM, key: %vm_operations, value: string)
  remove_from_blocked_operations(self: @VM, key: %vm_operations)
  sysprep(self: @VM, unattend: secret, timeout: float)
  add_to_other_config(self: @VM, key: string, value: string) sync
  remove_from_other_config(self: @VM, key: string) sync
  set_other_config(self: @VM, value: map(string,string)) sync
  add_to_platform(self: @VM, key: string, value: string) sync
  remove_from_platform(self: @VM, key: string) sync
  set_platform(self: @VM, value: map(string,string)) sync

class VM_metrics events
  uuid ro string
  memory_actual ro int volatile
  VCPUs_number ro int
  VCPUs_utilisation ro map(int,float) volatile = {}
  VCPUs_CPU ro map(int,int) volatile
  VCPUs_params ro map(string,string) volatile
  VCPUs_flags ro map(int,set(string)) volatile
  state ro set(string) volatile
  start_time ro datetime
  install_time ro datetime
  last_updated ro datetime volatile
  other_config rw map(string,string) volatile = {}
  hvm ro bool volatile = false
  nested_virt ro bool volatile = false
  nomigrate ro bool volatile = false
  current_domain_type ro %domain_type = "unspecified"
  numa_optimised st bool = false
  numa_nodes st int = 0
  numa_node_memory ro map(int,int) = {}

class VM_guest_metrics events
  uuid ro string
  os_version ro map(string,string)
  netbios_name ro map(string,string) = {}
  PV_drivers_version ro map(string,string)
  PV_drivers_up_to_date ro bool
  memory ro map(string,string) = {}
  disks ro map(string,string) = {}
  networks ro map(string,string)
  other ro map(string,string)
  last_updated ro datetime
  other_config rw map(string,string) = {}
  live ro bool = false
  can_use_hotplug_vbd ro %tristate_type = "unspecified"
  can_use_hotplug_vif ro %tristate_type = "unspecified"
  PV_drivers_detected ro bool = false
  services ro map(string,string) = {}

class console events constructed
  uuid ro string
  protocol ro %console_protocol
  location ro string
  VM ro @VM
  other_config rw map(string,string)
  port rw int internal

class VTPM events
  uuid ro string
  allowed_operations ro set(%vtpm_operations) volatile = []
  current_operations ro map(string,%vtpm_operations) volatile = {}
  VM st @VM
  backend ro @VM = "OpaqueRef:NULL"
  persistence_backend ro %persistence_backend = "xapi"
  is_unique st bool = false
  is_protected ro bool = false
  contents ro @secret internal
  create(vM: @VM, is_unique: bool) -> @VTPM
  destroy(self: @VTPM)

class blob events
  uuid ro string
  name_label rw string = ""
  name_description rw string = ""
  size ro int
  public rw bool = false
  last_updated st datetime
  mime_type st string
  create(mime_type: string, public: bool = false) -> @blob sync
  destroy(self: @blob) sync
"""
