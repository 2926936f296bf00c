"""Every error the library raises on purpose.

    GraticuleError
    ├── CoordinateError   a longitude or latitude that cannot be (also a ValueError)
    ├── DataError         a file, table, raster or dump that is not what was expected (also a ValueError)
    ├── CacheError        something the library wrote itself and can no longer trust
    ├── SettingError      an unknown name or an impossible value in a recipe, option or `--set` (also a ValueError)
    └── MissingExtra      an optional dependency is not installed; the message holds the pip line (also an ImportError)

A message says what was expected, what came, where (`file:row`) and what to do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class GraticuleError(Exception):
    """Base of all errors raised on purpose."""


class CoordinateError(GraticuleError, ValueError):
    """A longitude or latitude that cannot be."""


class DataError(GraticuleError, ValueError):
    """A file, table, raster or dump that is not what was expected."""


class CacheError(GraticuleError):
    """A file written by the library that is damaged or does not belong to its inputs."""


class SettingError(GraticuleError, ValueError):
    """An unknown name or an impossible value."""


class MissingExtra(GraticuleError, ImportError):
    """An optional dependency is not installed."""


def unknown(what: str, name: str, valid: Iterable[str]) -> SettingError:
    """The error for a name that is not in `valid`, with the nearest valid names."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.45)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return SettingError(f"Unknown {what} {name!r}. {hint}Valid: {', '.join(names)}.")


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say in one sentence which pip line brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtra(
            f"This needs the package {package!r}, which is not installed: pip install 'graticule[{extra}]'."
        ) from error
