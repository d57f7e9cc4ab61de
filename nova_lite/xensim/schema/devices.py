"""PCI and graphics devices."""

TEXT = """
class PCI events
  uuid ro string
  class_id st string = ""
  class_name st string = ""
  vendor_id st string = ""
  vendor_name st string = ""
  device_id st string = ""
  device_name st string = ""
  host st @host = "OpaqueRef:NULL"
  pci_id st string = ""
  functions ro int internal = 1
  virtual_functions ro set(@PCI) internal
  physical_function st @PCI internal = "OpaqueRef:NULL"
  attached_VMs ro set(@VM) internal
  dependencies ro set(@PCI)
  other_config rw map(string,string) = {}
  subsystem_vendor_id st string = ""
  subsystem_vendor_name st string = ""
  subsystem_device_id st string = ""
  subsystem_device_name st string = ""
  scheduled_to_be_attached_to ro @VM internal = "OpaqueRef:NULL"
  driver_name st string = ""
  disable_dom0_access(self: @PCI) -> %pci_dom0_access
  enable_dom0_access(self: @PCI) -> %pci_dom0_access
  get_dom0_access_status(self: @PCI) -> %pci_dom0_access

class PGPU events
  uuid ro string
  PCI st @PCI = "OpaqueRef:NULL"
  GPU_group st @GPU_group = "OpaqueRef:NULL"
  host ro @host = "OpaqueRef:NULL"
  other_config rw map(string,string) = {}
  supported_VGPU_types ro set(@VGPU_type)
  enabled_VGPU_types ro set(@VGPU_type)
  resident_VGPUs ro set(@VGPU)
  size st int internal = 1048576
  supported_VGPU_max_capacities ro map(@VGPU_type,int) = {}
  dom0_access ro %pci_dom0_access = "enabled"
  is_system_display_device ro bool = false
  compatibility_metadata ro map(string,string) = {}
  add_enabled_VGPU_types(self: @PGPU, value: @VGPU_type)
  remove_enabled_VGPU_types(self: @PGPU, value: @VGPU_type)
  set_enabled_VGPU_types(self: @PGPU, value: set(@VGPU_type))
  set_GPU_group(self: @PGPU, value: @GPU_group)
  get_remaining_capacity(self: @PGPU, vgpu_type: @VGPU_type) -> int
  enable_dom0_access(self: @PGPU) -> %pci_dom0_access
  disable_dom0_access(self: @PGPU) -> %pci_dom0_access

class GPU_group events
  uuid ro string
  name_label rw string = ""
  name_description rw string = ""
  PGPUs ro set(@PGPU)
  VGPUs ro set(@VGPU)
  GPU_types ro set(string) = []
  other_config rw map(string,string) = {}
  allocation_algorithm rw %allocation_algorithm = "depth_first"
  supported_VGPU_types ro set(@VGPU_type)
  enabled_VGPU_types ro set(@VGPU_type)
  create(name_label: string = "", name_description: string = "", other_config: map(string,string) = {}) ->
      @GPU_group
  destroy(self: @GPU_group)
  get_remaining_capacity(self: @GPU_group, vgpu_type: @VGPU_type) -> int

class VGPU events
  uuid ro string
  VM ro @VM
  GPU_group ro @GPU_group
  device ro string = "0"
  currently_attached ro bool = false
  other_config rw map(string,string) = {}
  type ro @VGPU_type = "OpaqueRef:NULL"
  resident_on ro @PGPU = "OpaqueRef:NULL"
  scheduled_to_be_resident_on ro @PGPU = "OpaqueRef:NULL"
  compatibility_metadata ro map(string,string) = {}
  extra_args rw string = ""
  PCI ro @PCI = "OpaqueRef:NULL"
  create(VM: @VM, GPU_group: @GPU_group, device: string = "0", other_config: map(string,string) = {}, type:
      @VGPU_type = "OpaqueRef:NULL") -> @VGPU
  destroy(self: @VGPU)

class VGPU_type events
  uuid ro string
  vendor_name st string = ""
  model_name st string = ""
  framebuffer_size st int = 0
  max_heads st int = 0
  max_resolution_x st int = 0
  max_resolution_y st int = 0
  size st int internal = 0
  supported_on_PGPUs ro set(@PGPU)
  enabled_on_PGPUs ro set(@PGPU)
  VGPUs ro set(@VGPU)
  internal_config st map(string,string) internal = {}
  supported_on_GPU_groups ro set(@GPU_group)
  enabled_on_GPU_groups ro set(@GPU_group)
  implementation st %vgpu_type_implementation = "passthrough"
  identifier st string = ""
  experimental st bool = false
  compatible_types_in_vm ro set(@VGPU_type) = []
  compatible_types_on_pgpu ro set(@VGPU_type) internal = []
"""
