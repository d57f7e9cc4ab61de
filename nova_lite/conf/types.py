"""Option types of our own."""

from oslo_config import cfg, types

REFERENCE_PREFIX = "nova."
OWN_PREFIX = "nova_lite."


class ClassPath(types.String):
    """A dotted path of a class; the reference's ``nova.`` spelling is read as ``nova_lite.``."""

    def __init__(self):
        super().__init__(type_name="class path")

    def __call__(self, value):
        path = super().__call__(value)
        if path is not None and path.startswith(REFERENCE_PREFIX):
            return OWN_PREFIX + path[len(REFERENCE_PREFIX):]
        return path


def class_opt(name: str, **kwargs) -> cfg.Opt:
    """Return an option that holds one class path."""
    return cfg.Opt(name, type=ClassPath(), **kwargs)


def class_list_opt(name: str, **kwargs) -> cfg.ListOpt:
    """Return an option that holds a comma separated list of class paths."""
    return cfg.ListOpt(name, item_type=ClassPath(), **kwargs)


def moved_to(*places: tuple[str, str]) -> list[cfg.DeprecatedOpt]:
    """Return the other spellings, given as (group, name), under which an option is read too."""
    return [cfg.DeprecatedOpt(name, group=group) for group, name in places]


def seconds(name: str, default: float | int | None, help: str, *, min: int | None = 0, **kwargs) -> cfg.IntOpt:
    """Return an integer option in seconds, not negative unless ``min`` says so."""
    return cfg.IntOpt(name, default=default, min=min, help=help + " Seconds.", **kwargs)
