"""Sessions, people, tasks, events, messages."""

TEXT = """
class session volatile unlisted
  uuid ro string
  this_host ro @host
  this_user ro @user
  last_active ro datetime
  pool ro bool
  other_config rw map(string,string) = {}
  is_local_superuser ro bool = false
  subject ro @subject = "OpaqueRef:NULL"
  validation_time ro datetime = "19700101T00:00:00Z"
  auth_user_sid ro string = ""
  auth_user_name ro string = ""
  rbac_permissions st set(string) = []
  tasks ro set(@task)
  parent st @session = "OpaqueRef:NULL"
  originator ro string = ""
  client_certificate ro bool = false
  login_with_password(uname: string, pwd: string, version: string = "1.1", originator: string = "") ->
      @session sync nosession
  logout() sync
  change_password(old_pwd: string, new_pwd: string) sync
  slave_login(host: @host, psecret: secret) -> @session sync nosession
  slave_local_login(psecret: secret) -> @session sync nosession
  slave_local_login_with_password(uname: string, pwd: string) -> @session sync nosession
  create_from_db_file(filename: string) -> @session
  local_logout() sync
  get_all_subject_identifiers() -> set(string)
  logout_subject_identifier(subject_identifier: string)

class subject events constructed
  uuid ro string
  subject_identifier st string = ""
  other_config st map(string,string) = {}
  roles ro set(@role) = ["OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba"]
  add_to_roles(self: @subject, role: @role) sync
  remove_from_roles(self: @subject, role: @role) sync
  get_permissions_name_label(self: @subject) -> set(string) sync

class role events
  uuid ro string
  name_label st string = ""
  name_description st string = ""
  subroles st set(@role) = []
  is_internal ro bool = false
  get_permissions(self: @role) -> set(@role) sync
  get_permissions_name_label(self: @role) -> set(string) sync
  get_by_permission(permission: @role) -> set(@role) sync
  get_by_permission_name_label(label: string) -> set(@role) sync

class user constructed unlisted
  uuid ro string
  short_name st string
  fullname rw string
  other_config rw map(string,string) = {}

class secret constructed
  uuid ro string
  value rw string
  other_config rw map(string,string) = {}
  introduce(uuid: string, value: string, other_config: map(string,string) = {}) -> @secret sync

class task events volatile
  uuid ro string
  name_label ro string = ""
  name_description ro string = ""
  allowed_operations ro set(%task_allowed_operations) = []
  current_operations ro map(string,%task_allowed_operations) = {}
  created ro datetime
  finished ro datetime
  status ro %task_status_type
  session ro @session internal
  resident_on ro @host
  progress ro float
  externalpid ro int internal
  stunnelpid ro int internal
  forwarded ro bool internal
  forwarded_to ro @host internal
  type ro string
  result ro string
  error_info ro set(string)
  other_config ro map(string,string) = {}
  subtask_of ro @task = ""
  subtasks ro set(@task)
  backtrace ro string = "()"
  create(label: string, description: string) -> @task sync
  destroy(self: @task) sync
  cancel(task: @task)
  set_status(self: @task, value: %task_status_type) sync
  set_progress(self: @task, value: float) sync
  set_result(self: @task, value: string) sync
  set_error_info(self: @task, value: set(string)) sync
  add_to_other_config(self: @task, key: string, value: string)
  remove_from_other_config(self: @task, key: string)
  set_other_config(self: @task, value: map(string,string))

class event notable volatile unlisted
  id st int
  timestamp st datetime
  class st string
  operation st %event_operation
  ref st string
  obj_uuid st string
  snapshot ro record of class
  register(classes: set(string))
  unregister(classes: set(string))
  next() -> set(record event) sync
  from(classes: set(string), token: string, timeout: float) -> event_batch sync
  get_current_id() -> int sync
  inject(class: string, ref: string) -> string sync

class message notable events volatile unlisted
  uuid ro string
  name ro string
  priority ro int
  cls ro %cls
  obj_uuid ro string
  timestamp ro datetime
  body ro string
  create(name: string, priority: int, cls: %cls, obj_uuid: string, body: string) -> @message sync
  destroy(self: @message) sync
  destroy_many(messages: set(@message))
  destroy_all(filters: map(string,string))
  get(cls: %cls, obj_uuid: string, since: datetime) -> map(@message,record message) sync
  get_all() -> set(@message) sync
  get_since(since: datetime) -> map(@message,record message) sync
  get_record(self: @message) -> record message sync
  get_by_uuid(uuid: string) -> @message sync
  get_all_records() -> map(@message,record message) sync
  get_all_records_where(expr: string) -> map(@message,record message) sync

class data_source notable volatile unlisted
  name_label ro string = ""
  name_description ro string = ""
  enabled ro bool
  standard ro bool
  units ro string
  min ro float
  max ro float
  value ro float

class auth notable volatile unlisted
  get_subject_identifier(subject_name: string) -> string sync
  get_subject_information_from_identifier(subject_identifier: string) -> map(string,string) sync
  get_group_membership(subject_identifier: string) -> set(string) sync
"""
