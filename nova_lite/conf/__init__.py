"""Every option of nova_lite, registered on private ConfigOpts objects.

A process may hold several configurations at once (one per cell of a tree), so nothing here touches oslo.config's
global object. ``load`` reads and checks a configuration; ``new`` gives an unparsed one; ``list_opts`` is what
oslo-config-generator asks (namespace ``nova_lite``).
"""

from nova_lite.conf.loading import ConfigError, concurrency_mode, list_opts, load, new, unknown_options

__all__ = ["ConfigError", "concurrency_mode", "list_opts", "load", "new", "unknown_options"]
