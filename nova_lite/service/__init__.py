"""The composition root: builds the services of a cell from their configuration, and runs them.

``build_cells_service``, ``build_compute_service`` and ``build_api`` wire; ``Service`` has the life of a daemon's work
(several live in one process); ``run`` lives it for a process, with its signals.
"""

from nova_lite.service.composition import Api, build_api, build_cells_service, build_compute_service
from nova_lite.service.lifecycle import Service
from nova_lite.service.runner import run

__all__ = ["Api", "Service", "build_api", "build_cells_service", "build_compute_service", "run"]
