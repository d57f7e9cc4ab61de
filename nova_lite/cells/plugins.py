"""Finding the filter and weigher classes that the configuration names."""

import importlib
import inspect
import pkgutil
from types import ModuleType

from nova_lite.cells import utils


def load_classes(paths: list[str], base: type) -> list[type]:
    """Return the classes the paths name; a path may name a function that returns classes."""
    found: list[type] = []
    for path in paths:
        named = utils.load_class(path)
        found.extend([named] if inspect.isclass(named) else named())
    for cls in found:
        if not issubclass(cls, base):
            raise ValueError(f"{cls.__module__}.{cls.__name__} is no {base.__name__}")
    return found


def classes_in(package: ModuleType, base: type) -> list[type]:
    """Return every public class of that base in the modules of a package, by name of the module."""
    classes = []
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        classes += [cls for name, cls in vars(module).items()
                    if inspect.isclass(cls) and issubclass(cls, base) and cls.__module__ == module.__name__
                    and not name.startswith("_") and cls is not base]
    return classes
