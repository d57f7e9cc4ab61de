"""Trees of one seed; the seed is printed, and named by what fails."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.tree import ChaosTree

_IN_MEMORY = "/dev/shm"


@pytest.fixture
def make_tree(tmp_path):
    """Returns a function that builds a tree of a seed, closed at the end."""
    memory = Path(_IN_MEMORY)
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path))
    made = []

    def make(seed, **options):
        print(f"seed {seed}")
        place = directory / f"{len(made)}"
        place.mkdir()
        made.append(ChaosTree(seed, place, **options))
        return made[-1]

    logging.disable(logging.CRITICAL)  # everything that can go wrong is told of, thousands of times
    yield make
    logging.disable(logging.NOTSET)
    for tree in made:
        tree.close()
    shutil.rmtree(directory)
