"""VQ-VAE of vectors, tables and series: shapes of codes, what is refused, units, padding, and runs from training to export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.exported import assert_like, expected
from jax import export

import vaex
from vaex.core import Latents
from vaex.data.columns import Column
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.export import functions, stablehlo
from vaex.models.codebooks import vq_vae, vq_vae2
from vaex.plots.records import Bars, Curves
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

KEY = jax.random.key(0)
SMALL = {name: value for name, value in vq_vae.TINY.items() if name not in ("channels", "blocks")}
VECTORS = Spec("vectors", (9,), "real", location=(1.0,) * 9, scale=(2.0,) * 9)
TABLE = Spec("table", (2,), "real", columns=(Column("a", "gaussian"), Column("b", "poisson")), missing=True)
SERIES = Spec("series", (13, 3), "real", location=(0.0,) * 3, scale=(1.0,) * 3, missing=True)
HPARAMS = resolve(as_schedules(vq_vae.HParams()), 0)


def built(spec, **changes):
    sizes = {"hidden": (8,)} if len(spec.shape) == 1 else {"channels": 2, "blocks": 1}
    return vq_vae.build(vq_vae.Config(**{**SMALL, **sizes, **changes}), spec)


@pytest.mark.parametrize(
    ("spec", "changes", "shape"),
    [
        (VECTORS, {"downsampling": 4}, (2,)),
        (VECTORS, {"downsampling": 1, "quantizer": "residual"}, (9, 2)),
        (TABLE, {}, (1,)),
        (SERIES, {"downsampling": 4}, (3,)),
        (SERIES, {"downsampling": 2, "quantizer": "grouped"}, (6, 2)),
    ],
)
def test_codes_of_an_example_and_back(spec, changes, shape):
    """One code for every ``downsampling`` entries of a vector or steps of a series, times the codebooks."""
    recipe = built(spec, **changes)
    assert recipe.latents == (Latents("code", int(np.prod(shape)), 4, "residual" in changes.values()),)
    model, x = recipe.stages[0].model, jax.ShapeDtypeStruct((5, *spec.shape), jnp.float32)

    def through(x):
        variables = model.init(KEY, {"x": x})
        codes = model.encode(KEY, variables, HPARAMS, {"x": x}).mean
        return codes, model.decode(variables, HPARAMS, codes, {}).mean, model.sample(KEY, variables, HPARAMS, 4).mean

    codes, decoded, drawn = jax.eval_shape(through, x)
    assert codes.shape == (5, *shape) and codes.dtype == jnp.int32
    assert decoded.shape == (5, *spec.shape) and drawn.shape == (4, *spec.shape)


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (VECTORS, {"downsampling": 10}, "--downsampling=10: expected 1 to 9, as vectors has vectors of 9 entries"),
        (VECTORS, {"channels": 4}, r"--channels does nothing for examples of shape \(9,\), which have an MLP"),
        (SERIES, {"hidden": (4,)}, r"--hidden does nothing for examples of shape \(13, 3\), which have convolutions"),
        (SERIES, {"downsampling": 16}, "series of 13 steps can be made smaller 4 times at most"),
        (SERIES, {"downsampling": 3}, "--downsampling=3: expected powers of two"),
        (
            Spec("volumes", (8, 8, 8, 1), "grey", volume=True),
            {},
            "codes are of vectors, series and images, but volumes",
        ),
    ],
)
def test_what_has_no_such_codes_is_refused(spec, changes, message):
    with pytest.raises(UserError, match=message):
        built(spec, **changes)


def test_levels_are_of_series_and_images():
    config = vq_vae2.Config(**{**SMALL, "channels": 2, "blocks": 0, "downsampling": (2, 2)})
    assert [block.size for block in vq_vae2.build(config, SERIES).latents] == [3, 6]
    with pytest.raises(
        UserError, match="vectors have no maps at several levels, and vectors holds vectors; use --model=vq_vae"
    ):
        vq_vae2.build(vq_vae2.Config(**{**SMALL, "downsampling": (2, 2)}), VECTORS)


@pytest.mark.slow
def test_units_of_columns_change_neither_codes_nor_more_than_the_log_determinant():
    """Columns times powers of two: the same codes, and an elbo that differs by the logarithms of these."""
    x, units = np.random.default_rng(0).standard_normal((20, 9)).astype(np.float32), 2.0 ** np.arange(-8, 10, 2)
    seen = []
    for scale in (np.ones(9), units):
        spec = VECTORS._replace(location=(0.0,) * 9, scale=tuple(scale.tolist()))
        model, batch = built(spec, downsampling=3).stages[0].model, {"x": jnp.asarray(x * scale, jnp.float32)}
        variables = jax.jit(model.init)(KEY, batch)
        outcome = jax.jit(model.objective, static_argnames="train")(KEY, variables, HPARAMS, batch, train=True)
        seen.append((model.encode(KEY, variables, HPARAMS, batch).mean, outcome.metrics["elbo"]))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert len(np.unique(np.asarray(seen[0][0]))) > 1
    np.testing.assert_allclose(seen[1][1] + np.log(units).sum(), seen[0][1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_masked_rows_and_missing_steps_count_for_nothing():
    x = np.random.default_rng(0).standard_normal((6, *SERIES.shape)).astype(np.float32)
    x[2:, 9:] = np.nan
    model, mask = built(SERIES).stages[0].model, jnp.array([1.0, 1, 1, 0, 0, 0])
    variables = jax.jit(model.init)(KEY, {"x": jnp.asarray(x)})
    objective = jax.jit(model.objective, static_argnames="train")
    outcomes = []
    for masked in (x[3:], x[3:] + 1.0):
        batch = {"x": jnp.concatenate([x[:3], masked]), "mask": mask}
        outcomes.append(objective(KEY, variables, HPARAMS, batch, train=True))
    assert float(outcomes[0].losses["vae"]) == float(outcomes[1].losses["vae"])
    jax.tree.map(np.testing.assert_array_equal, outcomes[0].state, outcomes[1].state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((outcomes[0].losses, outcomes[0].state)))
    px = model.decode(variables, HPARAMS, model.encode(KEY, variables, HPARAMS, {"x": jnp.asarray(x)}).mean, {})
    np.testing.assert_allclose(outcomes[0].metrics["reconstruction"][:3], -px.log_prob(jnp.asarray(x))[:3], rtol=1e-5)
    np.testing.assert_array_less(np.abs(px.log_prob(jnp.full_like(x, jnp.nan))), 1e-6)


def trained(data, tmp_path, **options):
    flags = {"codes": 8, "code_dim": 4, "prior_width": 16, "prior_layers": 1, "steps": 300, "prior_steps": 150}
    return vaex.train("vq_vae", data, **flags, **options, progress=False, out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "series"])
def test_a_run_learns_codes_and_their_prior_and_is_loaded_drawn_and_exported(kind, tmp_path):
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (400, 1))
    x = np.sin(phase + np.arange(16) / 2) + 0.05 * rng.standard_normal((400, 16))
    if kind == "series":
        run = trained(x[..., None], tmp_path, kind="series", downsampling=4, channels=8, blocks=1)
    else:
        run = trained(x, tmp_path, downsampling=4, hidden=(32,))
    model, x = run[0], x[..., None] if kind == "series" else x
    codes = model.encode(x[:50]).mean
    assert codes.shape == (50, 4) and model.decode(codes).mean.shape == x[:50].shape
    assert np.mean(np.square(model.reconstruct(x[:50]) - x[:50])) < 0.1 * x.var()
    bound = np.asarray(model.log_likelihood(KEY, x[:50])).mean()
    assert bound > -16 * 0.5 * np.log(2 * np.pi * np.e * x.var()) + 8.0  # of one Gaussian for each entry
    drawn = np.asarray(model.sample(KEY, 200)).reshape(200, 16)
    amplitude = np.sqrt(2) * drawn.std(axis=1)
    assert 0.7 < np.median(amplitude) < 1.2  # a sine is drawn, not its mean
    np.testing.assert_array_equal(vaex.load(tmp_path / "run")[0].encode(x[:50]).mean, codes)
    for function in functions.functions(model):
        loaded = export.deserialize(stablehlo.lower(function).serialize())
        arrays = function.arguments(np.random.default_rng(0), 3)
        assert_like(loaded.call(*arrays.values()), expected(model, function, arrays))
    batch = {"x": jnp.asarray(x[:10], jnp.float32)}
    figures = {name: draw(KEY, model.variables, HPARAMS, batch) for name, draw in model.recipe.figures.items()}
    assert set(figures) == {"code_usage", "temperatures", "completions"} and isinstance(figures["code_usage"], Bars)
    for name, count in (("temperatures", 4), ("completions", 3)):
        assert len(figures[name]) == count and all(isinstance(panel, Curves) for panel in figures[name])
    first = figures["completions"][0].lines
    assert set(first) == {"observed", "reconstruction", *(f"completion {index}" for index in (1, 2, 3))}
    np.testing.assert_allclose(
        first["observed"] * x.std(0).ravel()[0] if kind == "vectors" else first["observed"], np.ravel(x[0]), atol=0.3
    )


@pytest.mark.slow
def test_rows_of_a_table_come_back_as_its_columns(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    visits = rng.poisson(np.exp(1 + z)).astype(float)
    visits[::7] = np.nan
    table = {"city": np.where(z > 0, "Bonn", "Aachen"), "income": np.exp(10 + z), "visits": visits}
    dataset = vaex.Dataset.from_table(table, columns="income:log_normal,visits:poisson")
    run = trained(dataset, tmp_path, downsampling=1, hidden=(32, 32))
    rows = vaex.data.as_table(run.spec.columns, run[0].sample(KEY, 1000, show="sample"))
    rich = rows["city"] == "Bonn"
    assert np.median(rows["income"][rich]) > 2 * np.median(rows["income"][~rich]) and rows["visits"].min() >= 0
    assert set(run[0].recipe.figures) == {"code_usage"}
