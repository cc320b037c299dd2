"""Are latents more independent where their total correlation is penalised? beta-TC-VAE and FactorVAE beside beta-VAEs.

Trains on sprites, each setting with several seeds as members of one population: beta_vae at several beta (beta = 1 is the VAE),
beta_tc_vae at several beta, factor_vae at several gamma. Prints, for every setting, the total correlation of the aggregate
posterior against the reconstruction, as means and standard errors over the seeds.

All methods share one estimator: q(z) is the mixture of the posteriors of all 737,280 images, evaluated exactly at --samples draws
of z (vaex.evaluation.aggregate_posterior). No method is measured by its own training objective; no minibatch biases the estimate.

A model that encodes less has more independent latents. So each setting of beta_tc_vae and factor_vae is compared with a beta_vae of
the same reconstruction: where none of the sweep comes within --tolerance nats, further beta are trained, chosen by interpolation.

Results are kept in --out: the same command continues where it was stopped, and once finished prints its results again. The test
split is not read: reconstructions are of the validation images.
"""

from __future__ import annotations

import argparse
import functools
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.cli.parse import read_options
from vaex.cli.scripts import numbers
from vaex.data.synthetic.factors import FactorSource
from vaex.data.synthetic.sprites import sprites
from vaex.errors import Interrupted, UserError
from vaex.evaluation import latents, traversals
from vaex.evaluation.aggregate_posterior import aggregate_kl
from vaex.evaluation.likelihood import estimate
from vaex.files import atomic_path, digest, read_json, write_json
from vaex.plots.records import Curves, Grid
from vaex.results.compare import aligned, cell
from vaex.runs.config_file import read_config

MEASURES = ("reconstruction", "total_correlation", "index_code_mi", "dimension_wise_kl")
STRENGTHS = {"beta_vae": "beta", "beta_tc_vae": "beta", "factor_vae": "gamma"}
BLOCK = 8192  # images rendered or encoded at a time


class Setting(NamedTuple):
    """A method at one strength: measures, name -> [seeds], in nats; ``members`` are the seeds within the run's directory."""

    model: str
    strength: str
    values: dict[str, np.ndarray]
    directory: pathlib.Path
    members: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return a name such as ``beta_tc_vae beta=4``."""
        return f"{self.model} {STRENGTHS[self.model]}={self.strength}"

    def mean(self, measure: str) -> tuple[float, float]:
        """Return the mean over seeds and its standard error."""
        return estimate(self.values[measure])[:2]


class Images(NamedTuple):
    """All images of a source.

    Attributes:
      bits: [u, bytes], the distinct images as packed bits.
      which: [n], index of each image among the distinct ones.
      shape: of an image.
    """

    bits: np.ndarray
    which: np.ndarray
    shape: tuple[int, ...]


def say(text: str) -> None:
    """Print a line of progress with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def train(flags: argparse.Namespace, model: str, strengths: list[str], folder: str) -> pathlib.Path:
    """Train a population over strengths and seeds, unless it is finished, and return its directory."""
    directory = flags.out / folder
    say(f"{model}, {STRENGTHS[model]} = {', '.join(strengths)}")
    options: dict[str, Any] = {STRENGTHS[model]: [float(strength) for strength in strengths]}
    options |= {name: getattr(flags, name) for name in ("steps", "batch_size", "latent_dim", "image_size")}
    options |= read_options(model, [f"--seeds={flags.seeds}", f"--hidden={flags.hidden}"])
    options |= {"figures": False, "eval_split": "validation", "eval_images": 1, "eval_samples": 1}
    vaex.train(model, "sprites", out=directory, evaluate=True, **{**options, **read_options(model, flags.run_flags)})
    return directory


def all_images(source: FactorSource) -> Images:
    """Render every image of the grid. At low resolution, and for symmetric shapes, many are equal."""
    draw = jax.jit(lambda factors: source.render(source.resident, factors))
    grid = source.grid()
    blocks = []
    for start in range(0, len(grid), BLOCK):
        rows = np.minimum(np.arange(start, start + BLOCK), len(grid) - 1)  # blocks of one shape share one program
        drawn = np.asarray(draw(grid[rows])).reshape(BLOCK, -1)
        blocks.append(np.packbits(drawn, axis=1)[: len(grid) - start])
    packed = np.concatenate(blocks)
    opaque = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()  # an image is one value
    _, first, which = np.unique(opaque, return_index=True, return_inverse=True)
    return Images(packed[first], which, source.spec.shape)


Moments = tuple[np.ndarray, np.ndarray]


def all_posteriors(directory: pathlib.Path, images: Callable[[], Images]) -> Iterator[Moments]:
    """Yield, for each member, mean and log scale of the posterior of every image, [n, d] each."""
    recipe = vaex.load(directory).recipe

    @jax.jit
    def encode(variables: Any, hparams: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        posterior = recipe.model.encode(jax.random.key(0), variables, hparams, {"x": x.astype(np.float32)})
        return posterior.mean, posterior.log_scale

    for index in range(len(read_json(directory / "summary.json")["members"])):
        run, (bits, which, shape) = vaex.load(directory, member=index), images()
        blocks = []
        for start in range(0, len(bits), BLOCK):
            rows = np.minimum(np.arange(start, start + BLOCK), len(bits) - 1)
            pixels = np.unpackbits(bits[rows], axis=1, count=math.prod(shape)).reshape(BLOCK, *shape)
            blocks.append(jax.device_get(encode(run.variables, run.hparams, pixels)))
        means, log_scales = (np.concatenate(parts)[which] for parts in zip(*blocks, strict=True))
        yield means, log_scales


def measured(
    flags: argparse.Namespace, directory: pathlib.Path, images: Callable[[], Images]
) -> list[dict[str, float]]:
    """Return the measures of each member of a finished run, kept in a file; ``images`` renders all images where needed."""
    summary, record = read_json(directory / "summary.json"), read_config(directory / "config.json")
    made_from = {
        "run": digest(record["identity"]),
        "data": record["data"]["data_hash"],
        "steps": summary["steps"],
        "samples": flags.samples,
    }
    path = flags.out / "measured" / f"{directory.name}.json"
    if path.exists() and (kept := read_json(path))["made_from"] == made_from:
        return kept["members"]
    measures = []
    for index, (member, moments) in enumerate(zip(summary["members"], all_posteriors(directory, images), strict=True)):
        parts = aggregate_kl(jax.random.key(index), *moments, num_samples=flags.samples)
        estimates = {name: part.mean for name, part in parts._asdict().items()}
        measures.append(estimates | {name: member[name] for name in ("reconstruction", "kl", "elbo")})
        total = parts.total_correlation
        say(f"  {directory.name}, member {index + 1} of {len(summary['members'])}: total correlation "
            f"{total.mean:.3f} ± {total.standard_error:.3f}")  # fmt: skip
    write_json(path, {"made_from": made_from, "members": measures})
    return measures


def settings_of(flags: argparse.Namespace, directory: pathlib.Path, images: Callable[[], Images]) -> list[Setting]:
    """Group a run's members by strength, with their measures."""
    summary, records = read_json(directory / "summary.json"), measured(flags, directory, images)
    model, groups = summary["model"], {}
    for index, member in enumerate(summary["members"]):
        groups.setdefault(member["hparams"][STRENGTHS[model]], []).append(index)
    return [
        Setting(model, strength, {m: np.array([records[i][m] for i in rows]) for m in MEASURES}, directory, tuple(rows))
        for strength, rows in groups.items()
    ]


def nearest(target: Setting, sweep: list[Setting]) -> tuple[Setting, float]:
    """Return the setting of the sweep whose reconstruction is nearest to the target's, and the difference, nats."""
    distances = [setting.mean("reconstruction")[0] - target.mean("reconstruction")[0] for setting in sweep]
    best = int(np.argmin(np.abs(distances)))
    return sweep[best], distances[best]


def further_beta(target: Setting, sweep: list[Setting]) -> str:
    """Return the beta at which the sweep should reach the target's reconstruction.

    Interpolated linearly in log beta; beyond the ends of the sweep, 1.5 times less or more than its extreme beta.
    """
    goal = target.mean("reconstruction")[0]
    points = sorted((setting.mean("reconstruction")[0], math.log(float(setting.strength))) for setting in sweep)
    reached, logs = np.array(points).T
    if goal < reached[0] or goal > reached[-1]:
        log_beta = logs.min() - math.log(1.5) if goal < reached[0] else logs.max() + math.log(1.5)
    else:
        log_beta = float(np.interp(goal, reached, logs))
    return f"{math.exp(log_beta):.3g}"


def refined(
    flags: argparse.Namespace, sweep: list[Setting], targets: list[Setting], images: Callable[[], Images]
) -> list[Setting]:
    """Extend the sweep by further beta until each target is matched or the rounds are over."""
    for number in range(1, flags.rounds + 1):
        known = {setting.strength for setting in sweep}
        unmatched = [target for target in targets if abs(nearest(target, sweep)[1]) > flags.tolerance]
        further = list(dict.fromkeys(beta for beta in (further_beta(t, sweep) for t in unmatched) if beta not in known))
        if not further:
            break
        sweep = sweep + settings_of(flags, train(flags, "beta_vae", further, f"beta_vae_matched_{number}"), images)
    return sorted(sweep, key=lambda setting: float(setting.strength))


def table(settings: list[Setting]) -> str:
    """Return a table with a row per setting: means and standard errors over the seeds, nats."""
    head = ["method", "seeds", *(name.replace("_", " ") for name in MEASURES)]
    rows = [
        [setting.name, str(len(setting.members)), *(cell(*setting.mean(m)) for m in MEASURES)] for setting in settings
    ]
    return aligned([head, *rows])


def comparisons(flags: argparse.Namespace, sweep: list[Setting], targets: list[Setting]) -> list[dict[str, Any]]:
    """Compare each target with the beta_vae of its reconstruction."""
    results = []
    for target in targets:
        match, distance = nearest(target, sweep)
        value, value_error = target.mean("total_correlation")
        baseline, baseline_error = match.mean("total_correlation")
        error = math.hypot(value_error, baseline_error)
        results.append(
            {
                "method": target.name,
                "against": match.name,
                "reconstruction_off_by": -distance,
                "matched": abs(distance) <= flags.tolerance,
                "total_correlation": [value, value_error],
                "against_total_correlation": [baseline, baseline_error],
                "difference": value - baseline,
                "difference_in_standard_errors": (value - baseline) / error if error else None,
            }
        )
    return results


def sentences(results: list[dict[str, Any]]) -> str:
    """Describe the comparisons, a line each."""
    lines = []
    for result in results:
        remedy = "" if result["matched"] else " (NOT matched: more --rounds, or other --betas)"
        ratio = result["difference_in_standard_errors"]
        errors = "" if ratio is None or not math.isfinite(ratio) else f", {ratio:+.1f} standard errors"
        lines.append(
            f"{result['method']}: total correlation {cell(*result['total_correlation'])}, {result['against']}: "
            f"{cell(*result['against_total_correlation'])}; difference {result['difference']:+.3f}{errors}, at a "
            f"reconstruction that differs by {result['reconstruction_off_by']:+.2f} nats{remedy}"
        )
    return "\n".join(lines)


def draw_plot(settings: list[Setting], path: pathlib.Path) -> None:
    """Draw total correlation against reconstruction, a line per method through its strengths, with standard errors."""
    from vaex.plots import style

    means = {
        setting.name: (*setting.mean("reconstruction"), *setting.mean("total_correlation")) for setting in settings
    }
    x = np.array(sorted(values[0] for values in means.values()))
    lines, methods = {}, list(dict.fromkeys(setting.model for setting in settings))
    for model in methods:
        points = np.array(sorted(means[setting.name] for setting in settings if setting.model == model))
        inside = (x >= points[0, 0]) & (x <= points[-1, 0])
        lines[model] = np.where(inside, np.interp(x, points[:, 0], points[:, 2]), np.nan)
    title = "Total correlation of the aggregate posterior"
    figure = plots.draw(Curves(x, lines, "reconstruction (nats; better to the left)", "nats", title))
    axes, colors = figure.axes[0], dict(zip(methods, style.colors(len(methods)), strict=True))
    for setting in settings:
        across, across_error, up, up_error = means[setting.name]
        color = colors[setting.model]
        axes.errorbar(across, up, up_error, across_error, color=color, marker="o", markersize=4, capsize=2)
        place = {"textcoords": "offset points", "xytext": (5, 4), "fontsize": style.TICK, "color": color}
        axes.annotate(setting.strength, (across, up), **place)
    axes.margins(x=0.05, y=0.06)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_traversals(setting: Setting, image: np.ndarray, path: pathlib.Path) -> None:
    """Draw traversals of the first seed: each latent from -3 to 3, the most informative first, the others as the image has them."""
    index = setting.members[0]
    run = vaex.load(setting.directory, member=index)
    kl = np.array(read_json(setting.directory / "summary.json")["members"][index]["kl_per_latent"])
    order, values = latents.order_by_kl(kl), traversals.traversal_values()
    base = np.asarray(run.encode(image).mean)[0]
    images = traversals.latent_traversals(lambda z: run.decode(z).mean, base, order, values)
    rows = tuple(f"z{latent}  KL {kl[latent]:.2f}" for latent in order)
    plots.save(Grid(images, rows, tuple(f"{value:.3g}" for value in values), setting.name), path)


def strengths(text: str) -> list[str]:
    """Parse weights joined by commas, and spell them as the command line does."""
    values = numbers(text)
    if not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"{text}: expected positive numbers joined by commas")
    return [f"{value:g}" for value in values]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the flags; unknown flags go to every run, such as --network=conv."""

    class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
        """Keeps paragraphs as they are written, and shows defaults."""

    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=Formatter,
        allow_abbrev=False,
        epilog="Any other flag goes to all runs, such as --network=conv or --learning_rate=0.002.",
    )
    weights: dict[str, Any] = {"type": strengths, "metavar": "A,B"}
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/disentangling"), help="folder of all results"
    )
    parser.add_argument("--betas", default="1,2,3,4", help="of beta_vae; 1 is the VAE", **weights)
    parser.add_argument("--tc_betas", default="3,6", help="of beta_tc_vae: weight of the total correlation", **weights)
    parser.add_argument("--gammas", default="5,20", help="of factor_vae: weight of the critic's estimate", **weights)
    parser.add_argument("--seeds", default="0:3", help="as 0:3 (0 to 2) or 1,5")
    parser.add_argument("--steps", type=int, default=6000, help="of each member")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step")
    parser.add_argument("--hidden", default="256x256", help="widths of the networks' hidden layers")
    parser.add_argument("--latent_dim", type=int, default=10, help="number of latents")
    parser.add_argument("--image_size", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--samples", type=int, default=1000, help="draws of z at which q(z) is evaluated, per member")
    parser.add_argument("--tolerance", type=float, default=1.0, help="nats between reconstructions that count as equal")
    parser.add_argument("--rounds", type=int, default=2, help="of further beta, at most")
    flags, flags_of_runs = parser.parse_known_args(arguments)
    flags.run_flags = flags_of_runs
    if flags.samples < 2 or flags.rounds < 0 or not flags.tolerance > 0 or flags.image_size < 1:
        parser.error("--samples must be at least 2, --rounds at least 0, --tolerance above 0, --image_size at least 1")
    return flags


def main(arguments: list[str] | None = None) -> int:
    """Train, measure, match, print and draw; return 2 for invalid input."""
    flags = parse(arguments)
    flags.out = flags.out.expanduser()

    @functools.cache
    def images() -> Images:
        say("drawing all images")
        rendered = all_images(sprites(flags.image_size))
        say(f"{len(rendered.which)} images, {len(rendered.bits)} of them distinct")
        return rendered

    try:
        runs = [("beta_vae", flags.betas), ("beta_tc_vae", flags.tc_betas), ("factor_vae", flags.gammas)]
        sweep, *others = [settings_of(flags, train(flags, model, weights, model), images) for model, weights in runs]
        targets = [setting for settings in others for setting in settings]
        sweep = refined(flags, sweep, targets, images)
    except (UserError, Interrupted) as error:
        print(f"disentangling: {error}", file=sys.stderr)
        return error.exit_code
    results = comparisons(flags, sweep, targets)
    settings = [*sweep, *targets]
    write_json(
        flags.out / "disentangling.json",
        {
            "steps": flags.steps,
            "samples": flags.samples,
            "settings": [
                {"method": setting.name, **{m: setting.values[m].tolist() for m in MEASURES}} for setting in settings
            ],
            "comparisons": results,
        },
    )
    draw_plot(settings, flags.out / "total_correlation.png")
    matches = [nearest(target, sweep)[0] for target in targets]
    image = np.asarray(sprites(flags.image_size).observe(np.array([[2, 3, 5, 16, 16]])))  # a heart in the middle
    for setting in {setting.name: setting for setting in (sweep[0], *matches, *targets)}.values():
        draw_traversals(setting, image, flags.out / "traversals" / f"{setting.name.replace(' ', '_')}.png")
    print(
        f"\nsprites {flags.image_size}x{flags.image_size}, {flags.steps} steps; nats, mean over seeds ± its standard error\n"
    )
    print(table(settings))
    print(f"\n{sentences(results)}\n\nwritten: {flags.out / 'disentangling.json'}, {flags.out / 'total_correlation.png'}, "
          f"{flags.out / 'traversals'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
