"""Sphinx configuration of the manual."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "ext"))

project = "nova_lite"
author = "the nova_lite authors"
copyright = "2026, the nova_lite authors"
extensions = ["commands", "oslo_config.sphinxext", "reno.sphinxext"]
html_theme = "alabaster"
html_theme_options = {"description": "Cells, compute and XenAPI", "fixed_sidebar": True}
exclude_patterns = []
