"""The registry of models: a literal table, so that listing it imports nothing; and the way from a name to a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from vaex.errors import UserError, nearest

# name -> (module, summary)
MODELS: dict[str, tuple[str, str]] = {
    "vae": ("vaex.models.vae", "the variational autoencoder (Kingma & Welling 2014)"),
    "beta_vae": ("vaex.models.beta_vae", "KL weighted by beta, constant or warmed up (Higgins et al. 2017)"),
    "annealed_vae": ("vaex.models.annealed_vae", "KL drawn to a growing capacity (Burgess et al. 2018)"),
    "autoencoder": ("vaex.models.autoencoder", "point codes without a prior (Hinton & Salakhutdinov 2006)"),
}
PARTS = ("Config", "HParams", "build")


def module(name: str) -> ModuleType:
    """The module of the model called ``name``: a name of the registry, or a dotted path to a module of your own.

    Raises: UserError for a name that is neither, or a module without Config, HParams and build.
    Example:
      >>> module("beta_vae").__name__
      'vaex.models.beta_vae'
    """
    if name not in MODELS and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a model file of one's own lies where one works
    importable = all(part.isidentifier() for part in name.split("."))  # ".b" and "-b" are no modules
    if name not in MODELS and not (importable and ("." in name or importlib.util.find_spec(name) is not None)):
        raise UserError(
            f"no model is called {name!r}; {nearest(name, MODELS)}; or give a module of your own, as my_package.my_module"
        )
    path = MODELS[name][0] if name in MODELS else name
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
            raise  # the module exists but lacks something it imports: its author wants the traceback
        raise UserError(
            f"--model={name}: there is no module {error.name!r}; check the spelling and that it is on PYTHONPATH"
        ) from None
    missing = [part for part in PARTS if not hasattr(found, part)]
    if missing:
        raise UserError(
            f"--model={name}: the module lacks {', '.join(missing)}; a model file defines {', '.join(PARTS)}"
        )
    return found
