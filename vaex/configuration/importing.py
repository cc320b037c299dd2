"""Objects of a user's own by name: ``my_package.my_module:Name`` or ``folder/my_file.py:Name``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pathlib
import sys
import types
from typing import Any

from vaex.errors import UserError


def import_module(text: str) -> types.ModuleType:
    """Return the module of a dotted name or of a path that ends in .py.

    A file is imported once, under a name made of its path; the folder it lies in is not searched for other modules.

    Raises: ModuleNotFoundError where there is none; what the module raises on its import.
    """
    if not text.endswith(".py"):
        return importlib.import_module(text)
    path = pathlib.Path(text).expanduser().resolve()
    if not path.is_file():
        raise ModuleNotFoundError(f"there is no file {text}", name=text)
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{text} cannot be imported", name=text)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def import_object(flag: str, text: str) -> Any:
    """Return the object of a name with a colon.

    Args:
      flag: option whose value ``text`` is, for errors.
      text: such as "my_package.my_module:Encoder" or "my_nets.py:Encoder".
    Raises: UserError where there is no such module or object.
    Example:
      >>> import_object("decoder", "math:sqrt")(4.0)
      2.0
    """
    module_name, colon, name = text.rpartition(":")
    if not colon or not module_name or not name:
        raise UserError(f"--{flag}={text}: expected MODULE:NAME or FILE.py:NAME, such as my_nets:Encoder")
    try:
        subject: Any = import_module(module_name)
        for part in name.split("."):
            subject = getattr(subject, part)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--{flag}={text}: {error}; check the spelling and PYTHONPATH, or give the path of the file, as my_nets.py:{name}"
        ) from None
    except AttributeError:
        raise UserError(f"--{flag}={text}: {module_name} has no {name}; check the spelling") from None
    return subject


def object_name(value: object) -> str:
    """Return the name by which config.json records a user's object.

    It is MODULE:NAME where ``import_object`` gives the object again, or one equal to it when called without arguments; else a
    description in parentheses follows, and loading the run needs the object itself.

    Example:
      >>> import math
      >>> object_name(math.sqrt), object_name(lambda x: x).partition("(")[0]
      ('math:sqrt', 'vaex.configuration.importing:<lambda>')
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(object_name, value))})"
    subject: Any = value if hasattr(value, "__qualname__") else type(value)
    name = f"{subject.__module__}:{subject.__qualname__}"
    if "<" in name or subject.__module__ == "__main__":
        return f"{name}({'' if subject is value else ' '.join(repr(value).split())})"
    if subject is value or _is_default(value):
        return name
    return f"{name}({' '.join(repr(value).split())})"


def _is_default(value: object) -> bool:
    """Return True if calling the object's class without arguments gives an equal one."""
    try:
        return bool(type(value)() == value)
    except Exception:
        return False


def is_importable(name: str) -> bool:
    """Return True if a recorded name says all that importing its object needs.

    Example:
      >>> is_importable("my_nets:Encoder"), is_importable("my_nets:Encoder(width=3)")
      (True, False)
    """
    return "(" not in name and "<" not in name
