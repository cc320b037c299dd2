"""Laws that every family of distributions obeys: shapes, transformations, dtypes, moments, errors, extreme inputs."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import distributions as vd

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 8_000  # samples for the statistical laws
DATA = {
    "a": RNG.normal(size=(4, 3)),
    "b": RNG.normal(size=(4, 3)),
    "tril": np.tril(RNG.normal(size=(4, 3, 3))) + 2.0 * np.eye(3),
    "classes": RNG.normal(size=(4, 3, 5)),
    "image": RNG.normal(size=(4, 2, 2, 20)),
}


class Affine:
    """A flow with params (shift, log_scale), each [..., d]."""

    @staticmethod
    def forward(params, z):
        shift, log_scale = params
        return z * jnp.exp(log_scale) + shift, jnp.zeros(z.shape[:-1]) + jnp.sum(log_scale, -1)

    @staticmethod
    def inverse(params, value):
        shift, log_scale = params
        return (value - shift) * jnp.exp(-log_scale), jnp.zeros(value.shape[:-1]) - jnp.sum(log_scale, -1)


def build(name, data):
    """One distribution of each family, with batch shape (4,); scalars take part in the broadcasting."""
    a, b, tril, classes = data["a"], data["b"], data["tril"], data["classes"]
    return {
        "Normal": lambda: vd.Normal(a, log_scale=0.3 * b),
        "MultivariateNormal": lambda: vd.MultivariateNormal(a, scale_tril=tril),
        "LowRankNormal": lambda: vd.LowRankNormal(a, tril[..., :2], log_scale=0.3 * b),
        "Laplace": lambda: vd.Laplace(a, log_scale=0.3 * b),
        "Delta": lambda: vd.Delta(a),
        "Bernoulli": lambda: vd.Bernoulli(a),
        "ContinuousBernoulli": lambda: vd.ContinuousBernoulli(3 * a),
        "Categorical": lambda: vd.Categorical(classes),
        "LevelCategorical": lambda: vd.LevelCategorical(classes),
        "DiscretizedLogistic": lambda: vd.DiscretizedLogistic(0.5 + 0.3 * a, log_scale=b - 2.0, levels=16),
        "DiscretizedLogisticMixture": lambda: vd.DiscretizedLogisticMixture.from_parameters(
            data["image"], channels=3, levels=8
        ),
        "RelaxedOneHot": lambda: vd.RelaxedOneHot(classes, 0.7, event_ndims=2),
        "LogRelaxedOneHot": lambda: vd.LogRelaxedOneHot(classes, 0.7, event_ndims=2),
        "RelaxedBernoulli": lambda: vd.RelaxedBernoulli(a, 0.7),
        "LogitRelaxedBernoulli": lambda: vd.LogitRelaxedBernoulli(a, 0.7),
        "Mixture": lambda: vd.Mixture(classes[:, 0], vd.Normal(jnp.swapaxes(classes, 1, 2), log_scale=0.1)),
        "Independent": lambda: vd.Independent(vd.Normal(classes, log_scale=-0.2), 1),
        "Observed": lambda: vd.Observed(vd.Laplace(a, log_scale=0.3 * b, event_ndims=0), 1),
        "Transformed": lambda: vd.Transformed(vd.Normal(a, log_scale=0.3 * b), Affine, (b, 0.5 * a)),
        "VonMisesFisher": lambda: vd.VonMisesFisher(a, jnp.exp(b[:, 0]) * 3),
        "UniformSphere": lambda: vd.UniformSphere(4),
        "Poisson": lambda: vd.Poisson(a, unit=0.5),
        "NegativeBinomial": lambda: vd.NegativeBinomial(a, b, unit=0.5),
        "StudentT": lambda: vd.StudentT(a, log_scale=0.3 * b, df=9.0),
        "LogNormal": lambda: vd.LogNormal(a, log_scale=0.3 * b - 1.0),
        "ZeroInflated": lambda: vd.ZeroInflated(vd.Poisson(a, 0, unit=0.5), b),
        "CategoricalCodes": lambda: vd.CategoricalCodes(classes, ordered=True),
        "Rows": lambda: vd.Rows(
            (vd.Normal(a, log_scale=0.3 * b, event_ndims=0), vd.Bernoulli(b, event_ndims=0)), ((0, 2, 3), (5, 4, 1))
        ),
        "PoincareNormal": lambda: vd.PoincareNormal(vd.to_poincare_ball(0.5 * a), log_scale=0.3 * b, curvature=0.8),
    }[name]()


def arrays(dtype=np.float32):
    return {name: jnp.asarray(x, dtype) for name, x in DATA.items()}


FAMILIES = [
    *("Normal", "MultivariateNormal", "LowRankNormal", "Laplace", "Delta", "Bernoulli", "ContinuousBernoulli"),
    *("Categorical", "LevelCategorical", "DiscretizedLogistic", "DiscretizedLogisticMixture", "RelaxedOneHot"),
    *("LogRelaxedOneHot", "RelaxedBernoulli", "LogitRelaxedBernoulli", "Mixture", "Independent", "Transformed"),
    "Observed",
    *("VonMisesFisher", "UniformSphere", "PoincareNormal", "Poisson", "NegativeBinomial"),
    *("StudentT", "LogNormal", "ZeroInflated", "CategoricalCodes", "Rows"),
]
DENSITIES = [name for name in FAMILIES if name != "Delta"]
BATCHED = [name for name in DENSITIES if name != "UniformSphere"]


@contextlib.contextmanager
def option(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


STATISTICS = ("mean", "mode", "variance")


@functools.cache
def facts(name):
    """Everything that one family says about itself, from one compiled program: a law of its own.

    It runs without implicit promotion of dtypes and with every key used at most once.
    """

    def program(key, data):
        d = build(name, data)
        out = {"distribution": d, "x": d.sample(key, (N,))}
        out |= {field: getattr(d, field) for field in STATISTICS if getattr(d, field, None) is not None}
        if name != "Delta":
            out["log_prob"] = d.log_prob(out["x"])
            out["log_prob_mode"] = d.log_prob(d.mode) if hasattr(d, "mode") else None
            out["entropy"] = d.entropy() if hasattr(d, "entropy") else None
        return out

    with option("jax_numpy_dtype_promotion", "strict"), option("jax_debug_key_reuse", True):
        return jax.jit(program)(jax.random.key(0), arrays())


def test_the_table_holds_every_family():
    exported = {x for x in vd.__all__ if isinstance(getattr(vd, x), type)}
    assert exported - {"Distribution", "BaseDistribution", "Elementwise"} == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_shapes(name):
    found = facts(name)
    d = found["distribution"]
    event = {"UniformSphere": (4,), "DiscretizedLogisticMixture": (2, 2, 3), "Independent": (3, 5), "Mixture": (3,)}
    event |= {"RelaxedOneHot": (3, 5), "LogRelaxedOneHot": (3, 5), "Rows": (6,)}
    assert d.batch_shape == (() if name == "UniformSphere" else (4,))
    assert d.event_shape == event.get(name, (3,))
    assert found["x"].shape == (N, *d.batch_shape, *d.event_shape)
    for field in STATISTICS:
        assert field not in found or found[field].shape == d.batch_shape + d.event_shape
    if name != "Delta":
        assert found["log_prob"].shape == (N, *d.batch_shape)
        assert found["entropy"] is None or found["entropy"].shape == d.batch_shape
        assert jax.eval_shape(
            d.log_prob, jax.ShapeDtypeStruct((6, 2, *found["x"].shape[1:]), found["x"].dtype)
        ).shape == ((6, 2, *d.batch_shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHED)
def test_vmap_equals_batch(name):
    """A distribution mapped over its batch axis, and one that goes through a map over a new axis."""
    found = facts(name)
    d, x = found["distribution"], found["x"][:2]

    def program(d, x):
        pair = jax.vmap(lambda d: d)(jax.tree.map(lambda p: jnp.stack([p, p]), d))
        mapped = jax.vmap(lambda d, x: d.log_prob(x))(d, x[0])
        return mapped, pair.log_prob(x[:, None])[:, 1]

    mapped, paired = jax.jit(program)(d, x)
    np.testing.assert_allclose(mapped, found["log_prob"][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(paired, found["log_prob"][:2], rtol=1e-5, atol=1e-5)
    sample = jax.eval_shape(jax.vmap(lambda d, key: d.sample(key, (3,))), d, jax.random.split(KEY, 4))
    assert sample.shape == (4, 3, *x.shape[2:])


MEAN = np.zeros((3, 2), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda s: vd.Normal(MEAN, log_scale=s),
        lambda s: vd.MultivariateNormal(MEAN, scale_tril=jnp.exp(s) * jnp.eye(2)),
        lambda s: vd.LowRankNormal(MEAN, s * jnp.ones((2, 1)), scale=1.0),
        lambda s: vd.LogitRelaxedBernoulli(MEAN, 1.0 + s),
        lambda s: vd.LogRelaxedOneHot(MEAN, 1.0 + s),
        lambda s: vd.VonMisesFisher(MEAN + 1.0, s),
        lambda s: vd.PoincareNormal(MEAN, 1.0, curvature=0.1 + s),
        lambda s: vd.Mixture(s * jnp.arange(2.0), vd.Normal(jnp.zeros((3, 2, 2)) + s, 1.0)),
    ],
    ids=["scale", "covariance", "factor", "temperature", "class temperature", "concentration", "curvature", "weights"],
)
def test_shared_parameters_keep_their_place_under_vmap(make):
    """As many members as batch rows, where a shared field of lower rank would silently pair with the wrong axis."""
    x = jnp.full((3, 2), 0.4)

    @jax.jit
    def program(values):
        mapped = jax.vmap(make)(values)
        return mapped.log_prob(x), jnp.stack([make(s).log_prob(x) for s in values])

    mapped, expected = program(jnp.arange(3.0))
    np.testing.assert_allclose(mapped, expected, rtol=1e-5)
    assert float(jnp.abs(mapped[0] - mapped[2]).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in BATCHED if n != "Transformed"])  # a flow computes in its own dtype
def test_bfloat16_loses_nothing_but_the_parameters_digits(name):
    """Half-width parameters give float32 log-probabilities, exactly those of the same parameters in float32."""
    small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), facts(name)["distribution"])
    x = facts(name)["x"][:3]

    def program(small, x):
        wide = jax.tree.map(lambda x: x.astype(jnp.float32), small)
        return small.log_prob(x), wide.log_prob(x)

    half, full = jax.jit(program)(small, x)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, rtol=1e-5, atol=1e-5)
    exact = ("LevelCategorical", "DiscretizedLogistic", "DiscretizedLogisticMixture", "PoincareNormal", "Categorical")
    exact = (*exact, "CategoricalCodes", "Rows")
    assert (jax.eval_shape(small.sample, KEY).dtype == jnp.bfloat16) == (name not in exact)


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHED)
def test_float64_agrees_with_float32(name):
    found = facts(name)
    value, expected = np.asarray(found["x"][:3]), np.asarray(found["log_prob"][:3], np.float64)
    with option("jax_enable_x64", True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), found["distribution"])
        x = value if value.dtype == np.int32 else value.astype(np.float64)
        log_prob = jax.jit(lambda d, x: d.log_prob(x))(wide, x)
        assert log_prob.dtype == jnp.float64
        assert jax.eval_shape(wide.sample, jax.random.key(0)).dtype in (jnp.float64, jnp.int32)
        np.testing.assert_allclose(expected, log_prob, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", DENSITIES)
def test_moments_and_entropy_are_those_of_the_samples(name):
    """Within 5 standard errors of the sample mean, for each of a dozen elements."""
    found = facts(name)
    x = np.asarray(found["x"], np.float64)
    if "mean" in found:
        slack = 0.25 / 7 if name == "DiscretizedLogisticMixture" else 1e-6  # a quarter of a level, as documented
        assert np.all(np.abs(x.mean(0) - found["mean"]) < 5 * x.std(0) / N**0.5 + slack)
    if "variance" in found:
        squares = np.square(x - x.mean(0))
        assert np.all(np.abs(squares.mean(0) - found["variance"]) < 5 * squares.std(0) / N**0.5 + 1e-6)
    if found["entropy"] is not None:
        surprise = -np.asarray(found["log_prob"], np.float64)
        assert np.all(np.abs(surprise.mean(0) - found["entropy"]) < 5 * surprise.std(0) / N**0.5 + 1e-5)


@pytest.mark.parametrize("name", [n for n in DENSITIES if hasattr(getattr(vd, n), "mode")])
def test_the_mode_is_the_most_probable_value(name):
    """Of thousands of samples none is more probable."""
    found = facts(name)
    assert bool(jnp.all(found["log_prob_mode"] >= found["log_prob"] - 1e-5))


@pytest.mark.parametrize("name", DENSITIES)
def test_wrong_shapes_are_refused_in_words(name):
    """At trace time: nothing is computed here."""
    d, x = facts(name)["distribution"], facts(name)["x"]
    shape = x.shape[1:]
    wrong = [(*shape[:-1], 1), shape[:-1]] + ([(3, *shape[1:])] if d.batch_shape else [])
    for bad in wrong:
        with pytest.raises(ValueError, match=r"value has shape .*, expected"):
            jax.eval_shape(d.log_prob, jax.ShapeDtypeStruct(bad, x.dtype))
    with pytest.raises(TypeError, match=r"sample_shape is 3, expected a tuple; write \(3,\)"):
        d.sample(KEY, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vd.Normal(jnp.zeros((3, 1)), jnp.ones(3)), "Normal: got shapes loc .*add or drop axes"),
        (lambda: vd.Laplace(jnp.zeros(3), jnp.ones(2)), "Laplace: got shapes"),
        (lambda: vd.Normal(jnp.zeros(()), 1.0).batch_shape, "event_ndims is 1, expected an int between 0 and 0"),
        (lambda: vd.Bernoulli(jnp.zeros(2), event_ndims=2).batch_shape, "event_ndims is 2"),
        (lambda: vd.MultivariateNormal(jnp.zeros(3), scale_tril=jnp.eye(2)).batch_shape, "scale_tril has shape"),
        (
            lambda: vd.MultivariateNormal(jnp.zeros((2, 3)), scale_tril=jnp.zeros((4, 3, 3))).batch_shape,
            "got batch shapes",
        ),
        (lambda: vd.LowRankNormal(jnp.zeros(3), jnp.zeros((2, 3)), scale=1.0).batch_shape, "factor has shape"),
        (lambda: vd.Categorical(jnp.zeros(3)).batch_shape, "event_ndims is 1"),
        (lambda: vd.Categorical(jnp.zeros(())).batch_shape, "class axis last"),
        (lambda: vd.LevelCategorical(jnp.zeros((2, 1))).mean, "expected .* with L >= 2"),
        (lambda: vd.DiscretizedLogistic(jnp.zeros(2), 1.0, levels=1), "levels is 1"),
        (lambda: vd.DiscretizedLogisticMixture.from_parameters(jnp.zeros((2, 2, 9)), channels=3), "expected .* 10"),
        (
            lambda: (
                vd.DiscretizedLogisticMixture(*[jnp.zeros((2, 2, 3))] * 3, coupling=jnp.zeros((2, 2, 3))).batch_shape
            ),
            "build it with from_parameters",
        ),
        (lambda: vd.RelaxedOneHot(jnp.zeros((3, 4)), jnp.ones(2)).batch_shape, "temperature has shape"),
        (
            lambda: vd.RelaxedOneHot(jnp.zeros((3, 4)), 1.0, event_ndims=0).batch_shape,
            "class axis is part of the event",
        ),
        (lambda: vd.Mixture(jnp.zeros(3), vd.Normal(jnp.zeros((2, 4)), 1.0)).batch_shape, "components on the last"),
        (lambda: vd.Independent(vd.Normal(jnp.zeros((2, 4)), 1.0), 2).batch_shape, "ndims is 2"),
        (lambda: vd.Observed(vd.Normal(jnp.zeros(4), 1.0, event_ndims=0), 2).batch_shape, "ndims is 2"),
        (lambda: vd.Observed(vd.Normal(jnp.zeros((2, 4)), 1.0), 1).batch_shape, "give event_ndims=0"),
        (lambda: vd.UniformSphere(1), "dimension is 1"),
        (lambda: vd.VonMisesFisher(jnp.zeros((3, 1)), 1.0).event_shape, "with d >= 2"),
        (lambda: vd.VonMisesFisher(jnp.zeros((3, 2)), jnp.ones((2, 3))).batch_shape, "concentration has shape"),
        (lambda: vd.to_poincare_ball(jnp.zeros(())), "give vectors"),
        (lambda: vd.bernoulli_log_prob(jnp.zeros((2, 3)), jnp.zeros((2, 1))), "value has shape"),
        (lambda: vd.reparameterize(KEY, jnp.zeros((3, 1)), jnp.zeros(3)), "got shapes"),
    ],
)
def test_wrong_parameters_are_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LOCATION_SCALE = {
    "Normal": vd.Normal,
    "Laplace": vd.Laplace,
    "DiscretizedLogistic": vd.DiscretizedLogistic,
    "PoincareNormal": vd.PoincareNormal,
    "LowRankNormal": lambda loc, **scale: vd.LowRankNormal(loc, jnp.ones((3, 1)), **scale),
    "DiscretizedLogisticMixture": lambda loc, **scale: vd.DiscretizedLogisticMixture(
        jnp.zeros((4, 1)), loc[:, None], coupling=jnp.zeros((4, 1, 3)), event_ndims=1, **scale
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCATION_SCALE)
def test_a_scale_or_its_logarithm(name):
    """Either is accepted by name, and exactly one must be given; any leaves pass through unflattening."""
    make, loc = LOCATION_SCALE[name], 0.1 * jnp.ones((4, 3))
    log_scale = jnp.log(2.0) * (jnp.ones((4, 1, 3)) if "Mixture" in name else jnp.ones((4, 3)))
    by_scale, by_log = make(loc, scale=jnp.exp(log_scale)), make(loc, log_scale=log_scale)
    x = by_log.sample(KEY)
    np.testing.assert_allclose(by_scale.log_prob(x), by_log.log_prob(x), rtol=1e-6)
    np.testing.assert_array_equal(by_log.log_scale, log_scale)
    with pytest.raises(ValueError, match=rf"{name}: got neither of scale and log_scale, .* write {name}\("):
        make(loc)
    with pytest.raises(ValueError, match=rf"{name}: got both of scale and log_scale, expected exactly one"):
        make(loc, scale=1.0, log_scale=0.0)
    with pytest.raises(ValueError, match=rf"{name}: scale is -1.0, expected a positive number; .* log_scale="):
        make(loc, scale=-1.0)
    leaves, structure = jax.tree.flatten(by_log)
    for leaf in (None, "sharding", 0):
        rebuilt = structure.unflatten([leaf] * len(leaves))
        assert rebuilt.log_scale is leaf and rebuilt.loc is leaf


def test_the_second_argument_is_the_scale():
    """Not its logarithm, as in NumPyro and distrax; a covariance is not taken for a Cholesky factor."""
    np.testing.assert_allclose(vd.Normal(jnp.zeros(2), 3.0).scale, 3.0, rtol=1e-6)
    np.testing.assert_allclose(vd.Normal(jnp.zeros(2), 3.0).variance, 9.0, rtol=1e-6)
    np.testing.assert_allclose(vd.Laplace(jnp.zeros(2), 3.0).variance, 18.0, rtol=1e-6)
    np.testing.assert_array_equal(vd.Normal(jnp.zeros(2), 1.0).log_scale, jnp.zeros(2))
    with pytest.raises(TypeError, match="positional"):
        vd.MultivariateNormal(jnp.zeros(2), jnp.eye(2))


def test_wrong_kinds_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match="point mass has no density; use Normal"):
        vd.Delta(jnp.zeros(2)).log_prob(jnp.zeros(2))
    with pytest.raises(TypeError, match="dtype float32, expected integers"):
        vd.Categorical(jnp.zeros((2, 3))).log_prob(jnp.zeros(2))

    class Forgetful(Affine):
        forward = staticmethod(lambda params, z: (z, jnp.zeros(z.shape)))

    with pytest.raises(ValueError, match=r"log_det has shape .* sum it over the event axes"):
        vd.Transformed(vd.Normal(jnp.zeros(2), 1.0), Forgetful).sample_and_log_prob(KEY)


@pytest.mark.parametrize(
    "make",
    [
        lambda x, n: vd.Normal(x, log_scale=0.1, event_ndims=n),
        lambda x, n: vd.Laplace(x, log_scale=0.1, event_ndims=n),
        lambda x, n: vd.Bernoulli(x, event_ndims=n),
        lambda x, n: vd.ContinuousBernoulli(x, event_ndims=n),
        lambda x, n: vd.DiscretizedLogistic(x, log_scale=-1.0, levels=4, event_ndims=n),
        lambda x, n: vd.RelaxedBernoulli(x, 0.5, event_ndims=n),
        lambda x, n: vd.Independent(vd.Normal(x, log_scale=0.1, event_ndims=0), n),
        lambda x, n: vd.Observed(vd.Normal(x, log_scale=0.1, event_ndims=0), n),
    ],
)
def test_event_ndims_sums_that_many_axes(make):
    x = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)

    @jax.jit
    def program(key, x):
        each, two = make(x, 0), make(x, 2)
        value = each.sample(key)
        entropies = (each.entropy(), two.entropy()) if hasattr(each, "entropy") else ()
        return each.log_prob(value), two.log_prob(value), *entropies

    found = program(KEY, x)
    for each, two in (found[:2], found[2:] or found[:2]):
        np.testing.assert_allclose(two, np.asarray(each).sum((1, 2)), rtol=1e-5)
    for n in range(4):
        assert (
            make(x, n).batch_shape == jax.eval_shape(lambda x, n=n: make(x, n).log_prob(x), x).shape == x.shape[: 3 - n]
        )


def grid(*axes):
    return [jnp.asarray(x.ravel(), jnp.float32) for x in np.meshgrid(*axes, indexing="ij")]


SCALES = [-20.0, -3.0, 0.0, 20.0]
LOGITS = [-1e4, -30.0, -1.0, -1e-4, 0.0, 0.5, 1.0, 88.0, 1e4]
PIXELS = [0.0, 1e-6, 0.5, 1.0]
WIDE = [-1e3, 0.0, 0.5, 1.0, 1e3]


def everything(d, value=None):
    """Whatever the family offers, as one tuple of arrays."""
    x = d.sample(jax.random.key(1))
    parts = [x, d.log_prob(x)]
    parts += [] if value is None else [d.log_prob(value)]
    parts += [d.entropy()] if hasattr(d, "entropy") else []
    parts += [getattr(d, f) for f in STATISTICS if getattr(d, f, None) is not None]
    return [p for p in parts if jnp.issubdtype(p.dtype, jnp.inexact)]


CORNERS = {
    "Normal": (lambda m, s, x: everything(vd.Normal(m, log_scale=s, event_ndims=0), x), grid(WIDE, SCALES, PIXELS)),
    "Laplace": (lambda m, s, x: everything(vd.Laplace(m, log_scale=s, event_ndims=0), x), grid(WIDE, SCALES, PIXELS)),
    "Bernoulli": (lambda l, x: everything(vd.Bernoulli(l, event_ndims=0), x), grid(LOGITS, PIXELS)),
    "ContinuousBernoulli": (lambda l, x: everything(vd.ContinuousBernoulli(l, event_ndims=0), x), grid(LOGITS, PIXELS)),
    "DiscretizedLogistic": (
        lambda m, s, x: everything(vd.DiscretizedLogistic(m, log_scale=s, event_ndims=0), x),
        grid(WIDE, [-100.0, *SCALES, 60.0], PIXELS),
    ),
    "Categorical": (
        lambda l: everything(vd.Categorical(jnp.stack([l, 0 * l, -l], -1), event_ndims=0), jnp.ones(l.shape, int)),
        grid(LOGITS),
    ),
    "LevelCategorical": (
        lambda l, x: everything(vd.LevelCategorical(jnp.stack([l, 0 * l, -l], -1), event_ndims=0), x),
        grid(LOGITS, PIXELS),
    ),
    "RelaxedBernoulli": (
        lambda l, t, x: everything(vd.RelaxedBernoulli(l, t, event_ndims=0), x),
        grid(LOGITS, [0.05, 1.0], PIXELS),
    ),
    "LogitRelaxedBernoulli": (
        lambda l, t: everything(vd.LogitRelaxedBernoulli(l, t, event_ndims=0), l),
        grid(LOGITS, [0.05, 1.0]),
    ),
    "RelaxedOneHot": (
        lambda l, t, x: everything(vd.RelaxedOneHot(jnp.stack([l, 0 * l], -1), t), jnp.stack([x, 1 - x], -1)),
        grid(LOGITS, [0.05, 1.0], PIXELS),
    ),
    "LogRelaxedOneHot": (
        lambda l, t: everything(vd.LogRelaxedOneHot(jnp.stack([l, 0 * l], -1), t)),
        grid(LOGITS, [0.05, 1.0]),
    ),
    "MultivariateNormal": (
        lambda m, s, x: everything(
            vd.MultivariateNormal(
                jnp.stack([m, m], -1), scale_tril=jnp.exp(s)[:, None, None] * jnp.asarray([[1.0, 0.0], [0.5, 1.0]])
            ),
            jnp.stack([x, x], -1),
        ),
        grid(WIDE, SCALES, PIXELS),
    ),
    "LowRankNormal": (  # two parallel columns: Woodbury's matrix would be singular to rounding
        lambda m, s, f, x: everything(
            vd.LowRankNormal(jnp.stack([m, m], -1), f[:, None, None] * jnp.ones((2, 2)), log_scale=s[:, None]),
            jnp.stack([x, x], -1),
        ),
        grid([-1e3, 0.0], SCALES, [0.0, 1.0, 100.0], PIXELS),
    ),
    "Mixture": (
        lambda l, s, x: everything(
            vd.Mixture(jnp.stack([l, 0 * l], -1), vd.Normal(jnp.zeros((len(s), 2, 1)), log_scale=s[:, None, None])),
            x[:, None],
        ),
        grid(LOGITS, SCALES, PIXELS),
    ),
    "DiscretizedLogisticMixture": (
        lambda l, m, s, x: everything(
            vd.DiscretizedLogisticMixture.from_parameters(
                jnp.concatenate([jnp.stack([l, -l], -1), jnp.tile(jnp.stack([m, s, m], -1), 6)], -1),
                channels=3,
                event_ndims=1,
            ),
            jnp.stack([x, 1 - x, x], -1),
        ),
        grid([-1e4, 0.0], [-1e3, 0.5], SCALES, PIXELS),
    ),
    "VonMisesFisher": (
        lambda k, x: everything(
            vd.VonMisesFisher(jnp.stack([k, 0 * k - 1.0, 0 * k], -1), k), jnp.stack([x, 1 - x, 0 * x], -1)
        ),
        grid([0.0, 1e-6, 1.0, 1e4, 1e6], [-1.0, 0.0, 1.0]),
    ),
    "PoincareNormal": (
        lambda m, s: everything(
            vd.PoincareNormal(jnp.stack([m, 0 * m], -1), log_scale=s[:, None]), jnp.stack([0.5 * m, m], -1)
        ),
        grid([0.0, 0.5, 1.0], SCALES),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CORNERS)
def test_values_and_gradients_are_finite_at_extreme_inputs(name):
    function, arguments = CORNERS[name]

    @jax.jit
    def program(*arguments):
        values, pullback = jax.vjp(function, *arguments)
        return values, pullback([jnp.ones_like(v) for v in values])

    values, gradients = program(*arguments)
    for label, found in (("value", values), ("gradient", gradients)):
        for i, x in enumerate(found):
            bad = np.flatnonzero(~np.isfinite(np.asarray(x).reshape(len(x), -1)).all(1))
            assert not len(bad), f"{label} {i}: {[[float(a[j]) for a in arguments] for j in bad[:3]]}"


def test_missing_values_are_marginalised_with_gradients_that_stay_finite():
    """Against the density of the observed values alone, also where the distribution is far from any number filled in."""
    loc, log_scale = jnp.array([[1e6, -3.0, 0.5]]), jnp.array([[-6.0, 0.2, 1.0]])
    x = jnp.array([[np.nan, -2.0, np.nan]])

    def log_prob(loc, log_scale):
        return vd.Observed(vd.Normal(loc, log_scale=log_scale, event_ndims=0), 1).log_prob(x)[0]

    value, gradients = jax.value_and_grad(log_prob, (0, 1))(loc, log_scale)
    alone, expected = jax.value_and_grad(lambda a, b: vd.Normal(a, log_scale=b).log_prob(jnp.array([-2.0])), (0, 1))(
        loc[0, 1:2], log_scale[0, 1:2]
    )
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    for gradient, one in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient[0], [0.0, float(one[0]), 0.0], rtol=1e-6)
