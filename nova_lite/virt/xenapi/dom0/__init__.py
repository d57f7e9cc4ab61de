"""Plugins that run inside dom0, to be copied to /etc/xapi.d/plugins with the executable bit set.

Standard library and the host's own XenAPIPlugin only; Python 3.6 and later. nova_lite_dom0.py goes beside them and
is no plugin itself.
"""
