"""Registry of models: a literal table, which can be listed without an import, and the module of a name."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from vaex.configuration.importing import import_module
from vaex.errors import UserError, nearest
from vaex.models.installed import installed_models


class Entry(NamedTuple):
    """Line of the registry; the model is the module ``vaex.models.FAMILY.NAME``.

    Attributes:
      summary: what distinguishes the model, in a phrase.
      bound: lower bound on log p(x) that its objective is; "no" where it is none, and where another term is added.
      source: paper that introduced it.
    """

    summary: str
    bound: str
    source: str


# family, which is a folder -> name -> entry
FAMILIES: dict[str, dict[str, Entry]] = {
    "autoencoders": {
        "vae": Entry("Gaussian posterior, standard normal prior", "elbo", "Kingma & Welling 2014"),
        "wake_sleep": Entry("encoder trained on dreams of the decoder", "no", "Hinton et al. 1995"),
        "mcem": Entry("no encoder: codes by Hamiltonian chains", "no", "Wei & Tanner 1990"),
        "ms_ssim_vae": Entry("images compared by structural similarity", "no", "Snell et al. 2017"),
        "autoencoder": Entry("point codes without a prior", "no", "Hinton & Salakhutdinov 2006"),
        "denoising_autoencoder": Entry("clean inputs reconstructed from corrupted ones", "no", "Vincent et al. 2008"),
        "sparse_autoencoder": Entry("sparse codes by a KL or L1 penalty, or dropout", "no", "Ng 2011"),
        "k_sparse_autoencoder": Entry("codes of k nonzero entries", "no", "Makhzani & Frey 2014"),
        "contractive_autoencoder": Entry("penalty on the Jacobian of the encoder", "no", "Rifai et al. 2011"),
        "regularized_autoencoder": Entry(
            "smooth decoder and small codes, to which a mixture is fitted", "no", "Ghosh et al. 2020"
        ),
        "linear_autoencoder": Entry("principal subspace by gradient descent", "no", "Baldi & Hornik 1989"),
        "linear_vae": Entry("probabilistic PCA", "elbo", "Lucas et al. 2019"),
    },
    "disentangling": {
        "beta_vae": Entry("KL divergence weighted by beta, constant or warmed up", "beta >= 1", "Higgins et al. 2017"),
        "annealed_vae": Entry("KL divergence held near a growing capacity", "no", "Burgess et al. 2018"),
        "factor_vae": Entry("total correlation penalised, estimated by a critic", "no", "Kim & Mnih 2018"),
        "beta_tc_vae": Entry("total correlation penalised, estimated from minibatches", "no", "Chen et al. 2018"),
        "dip_vae": Entry("penalty on the covariance of the aggregate posterior", "no", "Kumar et al. 2018"),
        "info_vae": Entry("MMD to the prior beside the KL divergence", "no", "Zhao et al. 2019"),
        "wae": Entry("MMD to the prior instead of the KL divergence", "no", "Tolstikhin et al. 2018"),
    },
    "adversarial": {
        "adversarial_autoencoder": Entry(
            "codes and prior samples told apart by a discriminator", "no", "Makhzani et al. 2015"
        ),
        "vae_gan": Entry("examples compared in the features of a discriminator", "no", "Larsen et al. 2016"),
    },
    "tighter_bounds": {
        "iwae": Entry("importance-weighted bound; gradients by DReG or STL", "importance", "Burda et al. 2016"),
        "miwae": Entry(
            "mean of importance bounds over groups of samples", "mean of importance", "Rainforth et al. 2018"
        ),
        "ciwae": Entry(
            "convex combination of ELBO and importance bound", "elbo and importance", "Rainforth et al. 2018"
        ),
        "piwae": Entry(
            "encoder trained on MIWAE, decoder on the importance bound", "one per group", "Rainforth et al. 2018"
        ),
        "renyi_vae": Entry("variational Renyi bound of order alpha", "alpha >= 0", "Li & Turner 2016"),
    },
    "priors": {
        "vamp_vae": Entry("mixture prior of posteriors at learned pseudo-inputs", "elbo", "Tomczak & Welling 2018"),
        "mixture_vae": Entry("learned mixture of Gaussians as prior", "elbo", "Dilokthanakul et al. 2016"),
        "flow_vae": Entry("posterior and prior by normalizing flows", "elbo", "Rezende & Mohamed 2015"),
        "hamiltonian_vae": Entry(
            "posterior moved by leapfrog steps through the decoder", "elbo", "Caterini et al. 2018"
        ),
        "riemannian_hamiltonian_vae": Entry(
            "leapfrog steps and samples in a learned metric", "elbo", "Chadebec et al. 2020"
        ),
        "poincare_vae": Entry("latents in a hyperbolic space, gyroplane decoder", "elbo", "Mathieu et al. 2019"),
        "hyperspherical_vae": Entry("latents on the unit sphere, von Mises-Fisher", "elbo", "Davidson et al. 2018"),
        "gumbel_vae": Entry("categorical latents by relaxed samples", "relaxed; evaluated: elbo", "Jang et al. 2017"),
        "joint_vae": Entry("continuous and categorical latents with capacities", "no", "Dupont 2018"),
    },
    "codebooks": {
        "vq_vae": Entry(
            "discrete codes of images, series or vectors; transformer as prior",
            "no; evaluated: elbo",
            "van den Oord et al. 2017",
        ),
        "vq_vae2": Entry(
            "maps of codes at several levels, and a transformer as prior", "no; evaluated: elbo", "Razavi et al. 2019"
        ),
    },
    "hierarchies": {
        "ladder_vae": Entry(
            "precision-weighted posteriors, KL divergence warmed up", "elbo when warm", "Sonderby et al. 2016"
        ),
        "hierarchical_vae": Entry("top-down residual hierarchy (VDVAE, NVAE)", "elbo", "Child 2021"),
    },
    "sequences": {
        "sequence_vae": Entry("latents of each frame, recurrent prior", "elbo", "Chung et al. 2015"),
        "td_vae": Entry("belief states, and jumps of several steps", "no", "Gregor et al. 2019"),
    },
    "labels": {
        "conditional_vae": Entry("encoder and decoder read the label", "elbo given y", "Sohn et al. 2015"),
        "m2_vae": Entry("missing labels inferred by a classifier (M2)", "no", "Kingma et al. 2014"),
        "semi_supervised_vae": Entry("M2 over the codes of a VAE, for few labels (M1+M2)", "no", "Kingma et al. 2014"),
    },
}
MODELS = {name: entry for family in FAMILIES.values() for name, entry in family.items()}
FAMILY_OF = {name: family for family, entries in FAMILIES.items() for name in entries}
REQUIRED = ("Config", "HParams", "build")  # names that a model file defines


def frames(module: ModuleType) -> int | None:
    """Return the number of frames of the sequences on which the laws try a model, ``FRAMES`` of its module, or None.

    A model of single examples has none.

    Example:
      >>> frames(module("td_vae")), frames(module("vae"))
      (3, None)
    """
    return getattr(module, "FRAMES", None)


def module(name: str) -> ModuleType:
    """Return the module of a model.

    Args:
      name: in the registry, or of an installed package's entry point; or the dotted path, or the .py file, of a module of your own.
    Raises: UserError for a name that is none of these, or a module without Config, HParams and build.
    Example:
      >>> module("beta_vae").__name__
      'vaex.models.disentangling.beta_vae'
    """
    path = f"vaex.models.{FAMILY_OF[name]}.{name}" if name in MODELS else name
    if name not in MODELS and name in installed_models():
        path, package, problem = installed_models()[name]
        if problem:
            raise UserError(f"--model={name}, of {package}: {problem}")
    try:
        imported = import_module(path)
    except (ModuleNotFoundError, TypeError, ValueError) as error:  # ".b" and "" are no modules
        missing = getattr(error, "name", None)
        if (
            isinstance(error, ModuleNotFoundError)
            and missing
            and not (path == missing or path.startswith(missing + "."))
        ):
            raise  # the module exists but lacks something it imports: its author wants the traceback
        raise UserError(_unknown(name)) from None
    missing = [attribute for attribute in REQUIRED if not hasattr(imported, attribute)]
    if missing:
        raise UserError(
            f"--model={name}: the module lacks {', '.join(missing)}; a model file defines {', '.join(REQUIRED)}"
        )
    return imported


def known_models() -> list[str]:
    """Return the names that ``module`` takes: those of the registry, and those of installed packages."""
    return [*MODELS, *(name for name, model in installed_models().items() if not model.problem)]


def _unknown(name: str) -> str:
    """Return what to say of a name that is no model."""
    if name in installed_models():
        path, package, _ = installed_models()[name]
        return (
            f"--model={name}: {package} says that it is {path}, and there is no such module; install the package anew"
        )
    if name.lower().replace("-", "_") in known_models():
        return f"no model is called {name!r}; did you mean {name.lower().replace('-', '_')}?"
    if "." in name:
        return (
            f"--model={name}: there is no such module; check the spelling and PYTHONPATH, or give the path of the file, as "
            "my_models/my_vae.py"
        )
    alternative = "or give a module of your own, as my_package.my_module or my_vae.py"
    return f"no model is called {name!r}; {nearest(name, known_models())}; {alternative}"
