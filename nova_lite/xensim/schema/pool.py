"""The pool and its hosts."""

TEXT = """
class pool events
  uuid ro string
  name_label rw string
  name_description rw string
  master ro @host
  default_SR rw @SR
  suspend_image_SR rw @SR
  crash_dump_SR rw @SR
  other_config rw map(string,string)
  ha_enabled ro bool = false
  ha_configuration ro map(string,string) = {}
  ha_statefiles ro set(string) = []
  ha_host_failures_to_tolerate ro int = 0
  ha_plan_exists_for ro int = 0
  ha_allow_overcommit rw bool = false
  ha_overcommitted ro bool = false
  blobs ro map(string,@blob) = {}
  tags rw set(string) = []
  gui_config rw map(string,string) = {}
  health_check_config rw map(string,string) = {}
  wlb_url ro string = ""
  wlb_username ro string = ""
  wlb_password ro @secret internal
  wlb_enabled rw bool = false
  wlb_verify_cert rw bool = false
  redo_log_enabled ro bool = false
  redo_log_vdi ro @VDI = "OpaqueRef:NULL"
  vswitch_controller ro string = ""
  restrictions ro map(string,string) = {}
  metadata_VDIs ro set(@VDI)
  ha_cluster_stack ro string = ""
  allowed_operations ro set(%pool_allowed_operations) volatile = []
  current_operations ro map(string,%pool_allowed_operations) volatile = {}
  guest_agent_config ro map(string,string) = {}
  cpu_info ro map(string,string) = {}
  policy_no_vendor_device rw bool = false
  live_patching_disabled rw bool = false
  igmp_snooping_enabled ro bool = false
  uefi_certificates st string = ""
  custom_uefi_certificates st string = ""
  is_psr_pending rw bool = false
  tls_verification_enabled ro bool = false
  repositories ro set(@Repository) = []
  client_certificate_auth_enabled ro bool = false
  client_certificate_auth_name ro string = ""
  repository_proxy_url ro string = ""
  repository_proxy_username ro string = ""
  repository_proxy_password ro @secret = "OpaqueRef:NULL"
  migration_compression rw bool = false
  coordinator_bias rw bool = true
  local_auth_max_threads st int = 8
  ext_auth_max_threads st int = 1
  ext_auth_cache_enabled ro bool = true
  ext_auth_cache_size ro int = 50
  ext_auth_cache_expiry ro int = 300
  telemetry_uuid ro @secret = "OpaqueRef:NULL"
  telemetry_frequency ro %telemetry_frequency = "weekly"
  telemetry_next_collection ro datetime = "19700101T00:00:00Z"
  last_update_sync ro datetime = "19700101T00:00:00Z"
  update_sync_frequency ro %update_sync_frequency = "weekly"
  update_sync_day ro int = 0
  update_sync_enabled ro bool = false
  recommendations ro map(string,string) = {}
  license_server rw map(string,string) = {}
  ha_reboot_vm_on_internal_shutdown rw bool = true
  limit_console_sessions rw bool = false
  vm_console_idle_timeout rw int = 0
  auto_update_vm_secureboot_certificates rw bool = false
  join(master_address: string, master_username: string, master_password: string)
  join_force(master_address: string, master_username: string, master_password: string)
  eject(host: @host)
  initial_auth() -> secret
  emergency_transition_to_master() sync
  emergency_reset_master(master_address: string) sync
  recover_slaves() -> set(@host)
  is_slave(host: @host) -> bool sync
  create_VLAN(device: string, network: @network, VLAN: int) -> set(@PIF)
  management_reconfigure(network: @network)
  create_VLAN_from_PIF(pif: @PIF, network: @network, VLAN: int) -> set(@PIF)
  enable_ha(heartbeat_srs: set(@SR), configuration: map(string,string))
  disable_ha()
  sync_database()
  designate_new_master(host: @host)
  ha_prevent_restarts_for(seconds: int) sync
  ha_failover_plan_exists(n: int) -> bool sync
  ha_compute_max_host_failures_to_tolerate() -> int sync
  ha_compute_hypothetical_max_host_failures_to_tolerate(configuration: map(@VM,string)) -> int sync
  ha_compute_vm_failover_plan(failed_hosts: set(@host), failed_vms: set(@VM)) -> map(@VM,map(string,string))
      sync
  set_ha_host_failures_to_tolerate(self: @pool, value: int)
  create_new_blob(pool: @pool, name: string, mime_type: string, public: bool = false) -> @blob
  enable_external_auth(pool: @pool, config: map(string,string), service_name: string, auth_type: string) sync
  disable_external_auth(pool: @pool, config: map(string,string) = {}) sync
  external_auth_set_ldaps(pool: @pool, ldaps: bool, force: bool = false) sync
  detect_nonhomogeneous_external_auth(pool: @pool) sync
  initialize_wlb(wlb_url: string, wlb_username: string, wlb_password: string, xenserver_username: string,
      xenserver_password: string)
  deconfigure_wlb()
  send_wlb_configuration(config: map(string,string))
  retrieve_wlb_configuration() -> map(string,string)
  retrieve_wlb_recommendations() -> map(@VM,set(string))
  send_test_post(host: string, port: int, body: string) -> string
  certificate_install(name: string, cert: string)
  certificate_uninstall(name: string)
  certificate_list() -> set(string)
  install_ca_certificate(name: string, cert: string)
  uninstall_ca_certificate(name: string, force: bool = false)
  crl_install(name: string, cert: string)
  crl_uninstall(name: string)
  crl_list() -> set(string)
  certificate_sync()
  enable_tls_verification() sync
  enable_redo_log(sr: @SR)
  disable_redo_log()
  set_vswitch_controller(address: string)
  test_archive_target(self: @pool, config: map(string,string)) -> string sync
  enable_local_storage_caching(self: @pool)
  disable_local_storage_caching(self: @pool)
  get_license_state(self: @pool) -> map(string,string)
  apply_edition(self: @pool, edition: string)
  enable_ssl_legacy(self: @pool) removed
  disable_ssl_legacy(self: @pool)
  set_igmp_snooping_enabled(self: @pool, value: bool)
  has_extension(self: @pool, name: string) -> bool
  add_to_guest_agent_config(self: @pool, key: string, value: string)
  remove_from_guest_agent_config(self: @pool, key: string)
  rotate_secret()
  set_repositories(self: @pool, value: set(@Repository))
  add_repository(self: @pool, value: @Repository)
  remove_repository(self: @pool, value: @Repository)
  sync_updates(self: @pool, force: bool, token: string = "", token_id: string = "", username: string = "",
      password: string = "") -> string
  check_update_readiness(self: @pool, requires_reboot: bool) -> set(set(string))
  enable_client_certificate_auth(self: @pool, name: string)
  disable_client_certificate_auth(self: @pool)
  configure_repository_proxy(self: @pool, url: string, username: string, password: string)
  disable_repository_proxy(self: @pool)
  set_uefi_certificates(self: @pool, value: string)
  set_custom_uefi_certificates(self: @pool, value: string)
  set_https_only(self: @pool, value: bool)
  set_telemetry_next_collection(self: @pool, value: datetime)
  reset_telemetry_uuid(self: @pool)
  configure_update_sync(self: @pool, update_sync_frequency: %update_sync_frequency, update_sync_day: int)
  set_update_sync_enabled(self: @pool, value: bool)
  set_local_auth_max_threads(self: @pool, value: int) sync
  set_ext_auth_max_threads(self: @pool, value: int) sync
  set_ext_auth_cache_enabled(self: @pool, value: bool)
  set_ext_auth_cache_size(self: @pool, value: int)
  set_ext_auth_cache_expiry(self: @pool, value: int)
  get_guest_secureboot_readiness(self: @pool) -> %pool_guest_secureboot_readiness sync
  enable_ssh(self: @pool)
  disable_ssh(self: @pool)
  set_ssh_enabled_timeout(self: @pool, value: int)
  set_console_idle_timeout(self: @pool, value: int)
  set_ssh_auto_mode(self: @pool, value: bool)
  install_trusted_certificate(self: @pool, ca: bool, cert: string, purpose: set(%certificate_purpose))
  uninstall_trusted_certificate(self: @pool, certificate: @Certificate)
  sync_trusted_certificates_from(self: @pool, remote_pool: string, remote_session: @session,
      remote_certificate: string, ca: bool) -> set(@Certificate)

class host events
  uuid ro string
  name_label rw string = ""
  name_description rw string = ""
  memory_overhead ro int = 0
  allowed_operations ro set(%host_allowed_operations) volatile = []
  current_operations ro map(string,%host_allowed_operations) volatile = {}
  API_version_major ro int
  API_version_minor ro int
  API_version_vendor ro string
  API_version_vendor_implementation ro map(string,string)
  enabled ro bool
  software_version st map(string,string)
  other_config rw map(string,string)
  capabilities st set(string)
  cpu_configuration ro map(string,string)
  sched_policy ro string
  supported_bootloaders ro set(string)
  resident_VMs ro set(@VM)
  logging rw map(string,string)
  PIFs ro set(@PIF)
  suspend_image_sr rw @SR
  crash_dump_sr rw @SR
  crashdumps ro set(@host_crashdump)
  patches ro set(@host_patch)
  updates ro set(@pool_update)
  PBDs ro set(@PBD)
  host_CPUs ro set(@host_cpu)
  cpu_info ro map(string,string) = {}
  hostname rw string
  address rw string
  metrics ro @host_metrics
  license_params ro map(string,string)
  boot_free_mem ro int internal
  ha_statefiles ro set(string) = []
  ha_network_peers ro set(string) = []
  blobs ro map(string,@blob) = {}
  tags rw set(string) = []
  external_auth_type ro string = ""
  external_auth_service_name ro string = ""
  external_auth_configuration ro map(string,string) = {}
  edition ro string = ""
  license_server rw map(string,string) = {"address": "localhost", "port": "27000"}
  bios_strings ro map(string,string) = {}
  power_on_mode ro string = ""
  power_on_config ro map(string,string) = {}
  local_cache_sr st @SR = "OpaqueRef:NULL"
  chipset_info ro map(string,string) = {}
  PCIs ro set(@PCI)
  PGPUs ro set(@PGPU)
  PUSBs ro set(@PUSB)
  ssl_legacy st bool = true
  guest_VCPUs_params rw map(string,string) = {}
  display rw %host_display = "enabled"
  virtual_hardware_platform_versions ro set(int) = [0]
  control_domain ro @VM = "OpaqueRef:NULL"
  updates_requiring_reboot ro set(@pool_update)
  features ro set(@Feature)
  iscsi_iqn st string = ""
  multipathing st bool = false
  uefi_certificates st string = ""
  certificates ro set(@Certificate)
  editions ro set(string) = []
  pending_guidances ro set(%update_guidances) = []
  tls_verification_enabled ro bool = false
  last_software_update ro datetime = "19700101T00:00:00Z"
  https_only ro bool = false
  recommended_guidances ro set(%update_guidances) internal = []
  latest_synced_updates_applied ro %latest_synced_updates_applied_state = "unknown"
  numa_affinity_policy ro %host_numa_affinity_policy = "default_policy"
  pending_guidances_recommended ro set(%update_guidances) = []
  pending_guidances_full ro set(%update_guidances) = []
  last_update_hash ro string = ""
  ssh_enabled ro bool = true
  ssh_enabled_timeout ro int = 0
  ssh_expiry ro datetime = "19700101T00:00:00Z"
  console_idle_timeout ro int = 0
  ssh_auto_mode ro bool = false
  max_cstate ro string = ""
  secure_boot ro bool = false
  ntp_mode ro %host_ntp_mode = "Factory"
  ntp_custom_servers ro set(string) = []
  timezone ro string = "UTC"
  disable(host: @host, auto_enable: bool = true)
  enable(host: @host)
  shutdown(host: @host)
  reboot(host: @host)
  dmesg(host: @host) -> string
  dmesg_clear(host: @host) -> string
  get_log(host: @host) -> string
  send_debug_keys(host: @host, keys: string)
  bugreport_upload(host: @host, url: string, options: map(string,string))
  list_methods() -> set(string) sync
  license_apply(host: @host, contents: string) removed
  license_add(host: @host, contents: string)
  license_remove(host: @host)
  destroy(self: @host)
  power_on(host: @host)
  emergency_ha_disable(soft: bool = false) sync
  get_data_sources(host: @host) -> set(record data_source) sync
  record_data_source(host: @host, data_source: string) sync
  query_data_source(host: @host, data_source: string) -> float sync
  forget_data_source_archives(host: @host, data_source: string) sync
  assert_can_evacuate(host: @host)
  get_vms_which_prevent_evacuation(self: @host) -> map(@VM,set(string))
  get_uncooperative_resident_VMs(self: @host) -> set(@VM)
  evacuate(host: @host, network: @network = "OpaqueRef:NULL", evacuate_batch_size: int = 0)
  syslog_reconfigure(host: @host)
  management_reconfigure(pif: @PIF)
  local_management_reconfigure(interface: string) sync
  management_disable() sync
  get_management_interface(host: @host) -> @PIF
  get_system_status_capabilities(host: @host) -> string sync
  restart_agent(host: @host)
  shutdown_agent() sync
  set_hostname_live(host: @host, hostname: string) sync
  is_in_emergency_mode() -> bool sync
  compute_free_memory(host: @host) -> int
  compute_memory_overhead(host: @host) -> int
  sync_data(host: @host) sync
  backup_rrds(host: @host, delay: float) sync
  create_new_blob(host: @host, name: string, mime_type: string, public: bool = false) -> @blob
  call_plugin(host: @host, plugin: string, fn: string, args: map(string,string)) -> string
  has_extension(host: @host, name: string) -> bool
  call_extension(host: @host, call: string) -> string sync
  get_servertime(host: @host) -> datetime sync
  get_server_localtime(host: @host) -> datetime sync
  enable_external_auth(host: @host, config: map(string,string), service_name: string, auth_type: string) sync
  disable_external_auth(host: @host, config: map(string,string) = {}, force: bool = false) sync
  external_auth_set_ldaps(host: @host, ldaps: bool, force: bool = false) sync
  retrieve_wlb_evacuate_recommendations(self: @host) -> map(@VM,set(string))
  get_server_certificate(host: @host) -> string
  refresh_server_certificate(host: @host)
  install_server_certificate(host: @host, certificate: string, private_key: string, certificate_chain: string
      = "")
  emergency_reset_server_certificate() sync
  reset_server_certificate(host: @host)
  apply_edition(host: @host, edition: string, force: bool = false) sync
  refresh_pack_info(host: @host)
  set_power_on_mode(self: @host, power_on_mode: string, power_on_config: map(string,string))
  set_cpu_features(host: @host, features: string) sync removed
  reset_cpu_features(host: @host) sync removed
  enable_local_storage_caching(host: @host, sr: @SR) sync
  disable_local_storage_caching(host: @host) sync
  migrate_receive(host: @host, network: @network, options: map(string,string)) -> map(string,string)
  declare_dead(host: @host)
  enable_display(host: @host) -> %host_display
  disable_display(host: @host) -> %host_display
  set_ssl_legacy(self: @host, value: bool)
  set_iscsi_iqn(host: @host, value: string)
  set_multipathing(host: @host, value: bool)
  set_uefi_certificates(host: @host, value: string)
  set_sched_gran(self: @host, value: %host_sched_gran)
  get_sched_gran(self: @host) -> %host_sched_gran
  set_numa_affinity_policy(self: @host, value: %host_numa_affinity_policy)
  emergency_disable_tls_verification() sync
  emergency_reenable_tls_verification() sync
  apply_updates(self: @host, hash: string) -> set(set(string))
  rescan_drivers(self: @host)
  set_https_only(self: @host, value: bool)
  apply_recommended_guidances(self: @host) removed
  emergency_clear_mandatory_guidance() sync
  enable_ssh(self: @host)
  disable_ssh(self: @host)
  set_ssh_enabled_timeout(self: @host, value: int)
  set_console_idle_timeout(self: @host, value: int)
  set_ssh_auto_mode(self: @host, value: bool)
  get_tracked_user_agents(self: @host) -> map(string,string)
  set_max_cstate(self: @host, value: string)
  set_ntp_mode(self: @host, value: %host_ntp_mode)
  set_ntp_custom_servers(self: @host, value: set(string))
  get_ntp_servers_status(self: @host) -> map(string,string)
  set_timezone(self: @host, value: string)
  list_timezones(self: @host) -> set(string)
  get_ntp_synchronized(self: @host) -> bool
  set_servertime(self: @host, value: datetime)

class host_metrics events
  uuid ro string
  memory_total ro int
  memory_free ro int = 0
  live ro bool
  last_updated ro datetime
  other_config rw map(string,string) = {}

class host_cpu events
  uuid ro string
  host ro @host
  number ro int
  vendor ro string
  speed ro int
  modelname ro string
  family ro int
  model ro int
  stepping ro string
  flags ro string
  features ro string
  utilisation ro float volatile
  other_config rw map(string,string) = {}
"""
