"""Building, reading and checking a configuration."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.conf import (
    base,
    cells,
    compute,
    console,
    database,
    image,
    libraries,
    network,
    notifications,
    openstack,
    quota,
    rpc,
    scheduler,
    servicegroup,
    upgrade_levels,
    volume,
    xenserver,
)

CONFIG_ROOT = "/etc/nova_lite"

SECTIONS = (
    base,
    cells,
    compute,
    console,
    database,
    image,
    network,
    notifications,
    openstack,
    quota,
    rpc,
    scheduler,
    servicegroup,
    upgrade_levels,
    volume,
    xenserver,
)


ConfigError = exception.ConfigurationError


def list_opts() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return (group or None, options) of everything that is nova_lite's own, for oslo-config-generator."""
    by_group: dict[str | None, list[cfg.Opt]] = {}
    for section in SECTIONS:
        for group, opts in section.options():
            by_group.setdefault(group, []).extend(opts)
    return [(group, copy.deepcopy(opts)) for group, opts in by_group.items()]


def new() -> cfg.ConfigOpts:
    """Return a private, unparsed ConfigOpts with every option registered, ours and those of the oslo libraries."""
    conf = cfg.ConfigOpts()
    libraries.register(conf)
    for section in SECTIONS:
        for group, opts in section.options():
            conf.register_opts(opts, group=group)
    return conf


def load(
    args: Sequence[str] = (),
    *,
    prog: str,
    config_files: Iterable[str] | None = None,
    config_dirs: Iterable[str] | None = None,
    overrides: Mapping[tuple[str | None, str], Any] | None = None,
) -> cfg.ConfigOpts:
    """Return the parsed and checked configuration of program ``prog``.

    Without ``config_files`` and ``config_dirs`` the existing ones of /etc/nova_lite/nova_lite.conf,
    /etc/nova_lite/PROG.conf and /etc/nova_lite/PROG.conf.d are read; empty sequences mean none.
    ``overrides`` maps (group or None, option) to a value that wins over files and command line.
    Raises ConfigError with one line for the first mistake found.
    """
    conf = new()
    _parse(conf, list(args), prog, config_files, config_dirs)
    for (group, name), value in (overrides or {}).items():
        try:
            conf.set_override(name, value, group=group)
        except (cfg.Error, ValueError) as exc:
            raise ConfigError(f"[{group or 'DEFAULT'}] {name}: {_one_line(exc)}") from exc
    libraries.apply_flat_names(conf)
    _check_values(conf)
    _check_rules(conf)
    return conf


def concurrency_mode(
    args: Sequence[str] = (),
    *,
    prog: str,
    config_files: Iterable[str] | None = None,
    config_dirs: Iterable[str] | None = None,
) -> str:
    """Return ``[DEFAULT] concurrency`` of a program before anything that must not be imported too early is imported.

    Of ``args`` only --config-file and --config-dir are looked at. Raises ConfigError.
    """
    conf = cfg.ConfigOpts()
    conf.register_opt(base.CONCURRENCY)
    _parse(conf, _file_arguments(args), prog, config_files, config_dirs)
    try:
        return conf.concurrency
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(_one_line(exc)) from exc


def _parse(conf, args, prog, config_files, config_dirs) -> None:
    try:
        conf(
            args,
            project="nova_lite",
            prog=prog,
            default_config_files=_existing_files(prog) if config_files is None else list(config_files),
            default_config_dirs=_existing_dirs(prog) if config_dirs is None else list(config_dirs),
        )
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(_one_line(exc)) from exc


def _file_arguments(args: Sequence[str]) -> list[str]:
    """Return the parts of a command line that name configuration files and directories."""
    names = ("--config-file", "--config-dir")
    kept = []
    for position, argument in enumerate(args):
        if argument.startswith(tuple(f"{name}=" for name in names)):
            kept.append(argument)
        elif argument in names:
            kept += args[position:position + 2]
    return kept


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """Return 'FILE: [section] name' for everything in the configuration files that no option is registered for."""
    known = _known_names(conf)
    unknown = []
    for path in conf.config_file or ():
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(path, sections).parse()
        unknown += [
            f"{path}: [{section}] {name}"
            for section, names in sections.items()
            for name in names
            if (section, name.replace("-", "_")) not in known
        ]
    return unknown


def _known_names(conf: cfg.ConfigOpts) -> set[tuple[str, str]]:
    known = set()
    for group, opt in _registered(conf):
        section = group or "DEFAULT"
        known.add((section, opt.dest))
        known.update((old.group or section, (old.name or opt.dest).replace("-", "_")) for old in opt.deprecated_opts)
    return known


def _registered(conf: cfg.ConfigOpts) -> Iterable[tuple[str | None, cfg.Opt]]:
    for info in list(conf._opts.values()):
        yield None, info["opt"]
    for name, group in list(conf._groups.items()):
        for info in list(group._opts.values()):
            yield name, info["opt"]


def _check_values(conf: cfg.ConfigOpts) -> None:
    """Read every value once: oslo.config checks types and ranges only when a value is asked for."""
    for group, opt in _registered(conf):
        try:
            conf[group][opt.dest] if group else conf[opt.dest]
        except (cfg.Error, ValueError) as exc:
            raise ConfigError(_one_line(exc)) from exc


def _check_rules(conf: cfg.ConfigOpts) -> None:
    for section in SECTIONS:
        for complaint in getattr(section, "complaints", lambda conf: ())(conf):
            raise ConfigError(complaint)


def _existing_files(prog: str) -> list[str]:
    paths = (os.path.join(CONFIG_ROOT, f"{name}.conf") for name in ("nova_lite", prog))
    return [path for path in paths if os.path.isfile(path)]


def _existing_dirs(prog: str) -> list[str]:
    path = os.path.join(CONFIG_ROOT, f"{prog}.conf.d")
    return [path] if os.path.isdir(path) else []


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())
