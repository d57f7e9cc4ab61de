"""Write the commented sample configurations of etc/nova_lite, one per role, or check that they are current.

Usage: genconfig.py [--check]

Each sample holds every option of nova_lite that matters to the role, with its help and default as oslo-config-generator
writes them. What the role has to set is set; a few options of the oslo libraries stand at the top of their section.
"""

import io
import pathlib
import re
import sys

from oslo_config import cfg, generator

DIRECTORY = pathlib.Path(__file__).resolve().parents[1] / "etc" / "nova_lite"

BROKER = "rabbit://nova:BROKER_PASSWORD@127.0.0.1:5672/{vhost}"
DATABASE = "mysql+pymysql://nova:DATABASE_PASSWORD@127.0.0.1/{name}"

LIBRARY_OPTIONS = {
    "DEFAULT": """\
# Broker of this cell. A cell needs a virtual host of its own: fan-out exchanges of one virtual host are shared.
# With TLS, see [oslo_messaging_rabbit].
transport_url = {broker}

# Write debug messages to the log.
#debug = false

# Log to this file instead of standard error.
#log_file = <None>
""",
    "database": """\
# Database of this cell: sqlite:////path/file, mysql+pymysql://... or postgresql+psycopg2://...
connection = {database}
""",
    "oslo_messaging_rabbit": """\
# Speak TLS with the brokers; the other ssl_* options of oslo.messaging name the certificates.
#ssl = false

#ssl_ca_file =

# Seconds between heartbeats = threshold / rate / 2. A service stops within about this time.
#heartbeat_timeout_threshold = 30
#heartbeat_rate = 30
""",
    "oslo_messaging_notifications": """\
# messagingv2 sends notifications over the broker, log writes them to the log; none are sent by default.
#driver =
""",
}


class Role:
    """What one sample is for: the sections that it leaves out and the options that it sets."""

    def __init__(self, title: str, broker: str, database: str, leave_out: set[str], settings: dict):
        self.title = title
        self.broker = broker
        self.database = database
        self.leave_out = leave_out
        self.settings = settings


ROLES = {
    "api-cell.conf": Role(
        "the top cell of a tree: nova-cells, nova-manage and nova-lite",
        broker=BROKER.format(vhost="api"),
        database=DATABASE.format(name="nova_api"),
        leave_out={"xenserver"},
        settings={
            ("cells", "enable"): "true",
            ("cells", "name"): "api",
            ("cells", "cell_type"): "api",
        },
    ),
    "child-cell.conf": Role(
        "a cell below another one: nova-cells and nova-manage",
        broker=BROKER.format(vhost="west"),
        database=DATABASE.format(name="nova_west"),
        leave_out={"xenserver"},
        settings={
            ("cells", "enable"): "true",
            ("cells", "name"): "west",
            ("cells", "cell_type"): "compute",
        },
    ),
    "compute.conf": Role(
        "nova-compute, which drives one XenServer host of a cell",
        broker=BROKER.format(vhost="west"),
        database=DATABASE.format(name="nova_west"),
        leave_out=set(),
        settings={
            ("cells", "enable"): "true",
            ("cells", "name"): "west",
            ("cells", "cell_type"): "compute",
            ("DEFAULT", "compute_driver"): "xenapi.XenAPIDriver",
            ("xenserver", "connection_url"): "https://xenserver.example.org",
            ("xenserver", "connection_username"): "root",
            ("xenserver", "connection_password"): "XENSERVER_PASSWORD",
        },
    ),
}


def own_sections() -> dict[str, str]:
    """Return {section: its options as oslo-config-generator writes them}."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", "nova_lite"], default_config_files=[], default_config_dirs=[])
    text = io.StringIO()
    generator.generate(conf, output_file=text)
    parts = re.split(r"^\[(\w+)\]\n", text.getvalue(), flags=re.MULTILINE)
    return {name: without_banner(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def without_banner(body: str) -> str:
    return re.sub(r"^\n?#\n# From nova_lite\n#\n\n", "", body)


def set_option(body: str, name: str, value: str) -> str:
    """Return the section's text with the commented default of `name` replaced by a setting."""
    changed, count = re.subn(rf"^#{name} = ?.*$", f"{name} = {value}", body, count=1, flags=re.MULTILINE)
    if not count:
        raise SystemExit(f"genconfig: there is no option {name} to set")
    return changed


def sample(role: Role, sections: dict[str, str]) -> str:
    """Return the whole text of a role's sample."""
    chunks = [f"# Sample configuration of {role.title}.\n# Written by: tox -e genconfig\n"]
    for name in ["DEFAULT", *sorted({*sections, *LIBRARY_OPTIONS} - {"DEFAULT"})]:
        if name in role.leave_out:
            continue
        library = LIBRARY_OPTIONS.get(name, "").format(broker=role.broker, database=role.database)
        body = sections.get(name, "")
        for (section, option), value in role.settings.items():
            if section == name:
                body = set_option(body, option, value)
        chunks.append(f"[{name}]\n\n" + "\n".join(part.strip("\n") + "\n" for part in (library, body) if part))
    return "\n\n".join(chunks)


def main(arguments: list[str]) -> int:
    sections = own_sections()
    stale = []
    for name, role in ROLES.items():
        path = DIRECTORY / name
        text = sample(role, sections)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        print(f"not current, run tox -e genconfig: {', '.join(stale)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
