"""The registry of models: a literal table, so that listing it imports nothing; and the way from a name to a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import NamedTuple

from vaex.errors import UserError, nearest


class Entry(NamedTuple):
    """A line of the registry. The model is the module ``vaex.models.FAMILY.NAME``.

    ``bound``: which lower bound on log p(x) its objective is; "no" where it is none, and where another term is added.
    """

    summary: str
    bound: str
    source: str


# family, which is the folder of its models -> name -> what it is
FAMILIES: dict[str, dict[str, Entry]] = {
    "autoencoders": {
        "vae": Entry("the variational autoencoder", "elbo", "Kingma & Welling 2014"),
        "autoencoder": Entry("point codes without a prior", "no", "Hinton & Salakhutdinov 2006"),
        "denoising_autoencoder": Entry("codes of corrupted inputs", "no", "Vincent et al. 2008"),
        "sparse_autoencoder": Entry("codes that are seldom active, by KL, L1 or dropout", "no", "Ng 2011"),
        "k_sparse_autoencoder": Entry("only the k largest codes are kept", "no", "Makhzani & Frey 2014"),
        "contractive_autoencoder": Entry("an encoder of small Jacobian", "no", "Rifai et al. 2011"),
        "linear_autoencoder": Entry("PCA's subspace", "no", "Baldi & Hornik 1989"),
        "linear_vae": Entry("probabilistic PCA", "elbo", "Lucas et al. 2019"),
    },
    "disentangling": {
        "beta_vae": Entry("KL weighted by beta, constant or warmed up", "beta >= 1", "Higgins et al. 2017"),
        "annealed_vae": Entry("KL drawn to a growing capacity", "no", "Burgess et al. 2018"),
        "factor_vae": Entry("total correlation by a density-ratio critic", "no", "Kim & Mnih 2018"),
        "beta_tc_vae": Entry("total correlation by minibatch sampling", "no", "Chen et al. 2018"),
        "dip_vae": Entry("covariance of the aggregate posterior", "no", "Kumar et al. 2018"),
        "info_vae": Entry("MMD to the prior beside the KL", "no", "Zhao et al. 2019"),
        "wae": Entry("MMD to the prior instead of the KL", "no", "Tolstikhin et al. 2018"),
    },
    "tighter_bounds": {
        "iwae": Entry("the importance-weighted bound; DReG and STL by flag", "importance", "Burda et al. 2016"),
        "miwae": Entry("mean of m importance bounds", "mean of importance", "Rainforth et al. 2018"),
        "ciwae": Entry("elbo and importance bound mixed", "elbo and importance", "Rainforth et al. 2018"),
        "piwae": Entry("encoder by MIWAE, decoder by the importance bound", "one per player", "Rainforth et al. 2018"),
        "renyi_vae": Entry("Renyi bound of order alpha", "alpha >= 0", "Li & Turner 2016"),
    },
    "priors": {
        "vamp_vae": Entry("prior of posteriors at learned pseudo-inputs", "elbo", "Tomczak & Welling 2018"),
        "mixture_vae": Entry("prior that is a learned mixture of Gaussians", "elbo", "Dilokthanakul et al. 2016"),
        "flow_vae": Entry("posterior and prior by normalizing flows", "elbo", "Rezende & Mohamed 2015"),
        "hyperspherical_vae": Entry("codes on the unit sphere, von Mises-Fisher", "elbo", "Davidson et al. 2018"),
        "gumbel_vae": Entry("categorical latents by softened samples", "relaxed; evaluated: elbo", "Jang et al. 2017"),
        "joint_vae": Entry("continuous and categorical latents with capacities", "no", "Dupont 2018"),
    },
    "codebooks": {
        "vq_vae": Entry("a map of codes, and a transformer over it", "no; evaluated: elbo", "van den Oord et al. 2017"),
        "vq_vae2": Entry(
            "maps of codes at several levels, and a transformer", "no; evaluated: elbo", "Razavi et al. 2019"
        ),
    },
    "hierarchies": {
        "ladder_vae": Entry("precision-weighted posteriors, KL warmed up", "elbo when warm", "Sonderby et al. 2016"),
        "hierarchical_vae": Entry("residual cells from the top down (VDVAE, NVAE)", "elbo", "Child 2021"),
    },
    "sequences": {
        "sequence_vae": Entry("latents of each frame, behind a recurrent network", "elbo", "Chung et al. 2015"),
        "td_vae": Entry("beliefs about the present, and jumps into the future", "no", "Gregor et al. 2019"),
    },
    "labels": {
        "conditional_vae": Entry("encoder and decoder see the label", "elbo given y", "Sohn et al. 2015"),
        "m2_vae": Entry("the label inferred where it is missing (M2)", "no", "Kingma et al. 2014"),
        "semi_supervised_vae": Entry("few labels: M2 over the codes of a VAE (M1+M2)", "no", "Kingma et al. 2014"),
    },
}
MODELS = {name: entry for family in FAMILIES.values() for name, entry in family.items()}
FAMILY_OF = {name: family for family, entries in FAMILIES.items() for name in entries}
PARTS = ("Config", "HParams", "build")


def frames(module: ModuleType) -> int | None:
    """How many frames the sequences have that the laws give to a model: ``FRAMES`` of its module; None for a model of single
    examples, which has none.

    Example:
      >>> frames(module("td_vae")), frames(module("vae"))
      (3, None)
    """
    return getattr(module, "FRAMES", None)


def module(name: str) -> ModuleType:
    """The module of the model called ``name``: a name of the registry, or a dotted path to a module of your own.

    Raises: UserError for a name that is neither, or a module without Config, HParams and build.
    Example:
      >>> module("beta_vae").__name__
      'vaex.models.disentangling.beta_vae'
    """
    if name not in MODELS and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a model file of one's own lies where one works
    importable = all(part.isidentifier() for part in name.split("."))  # ".b" and "-b" are no modules
    if name not in MODELS and not (importable and ("." in name or importlib.util.find_spec(name) is not None)):
        raise UserError(
            f"no model is called {name!r}; {nearest(name, MODELS)}; or give a module of your own, as my_package.my_module"
        )
    path = f"vaex.models.{FAMILY_OF[name]}.{name}" if name in MODELS else name
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
