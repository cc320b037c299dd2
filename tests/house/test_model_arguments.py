"""Every option and every hyperparameter of every model changes what it computes, or is refused: none is ignored in silence."""

import dataclasses
import itertools
import re
import typing

import jax
import jax.numpy as jnp
import pytest

from vaex import models, testing
from vaex.configuration import needs
from vaex.configuration.declare import fields, plain_kind
from vaex.configuration.settings import Member
from vaex.errors import UserError
from vaex.models.likelihoods import SCALED
from vaex.runs import setup
from vaex.schedules import constant

pytestmark = pytest.mark.nightly

KEY = jax.random.key(0)
FEW = 2  # of a sample
# options that other tests show: objects of a user's own, and what changes how a program is compiled but not its numbers
ELSEWHERE = {
    "encoder": "tests/nets/test_named.py",
    "decoder": "tests/nets/test_named.py",
    "scan": "tests/models/test_hierarchical_vae.py",
}


def others(field, value):
    """Other values of an option, nearest first."""
    kind = plain_kind(field.kind)
    if typing.get_origin(kind) is typing.Literal:
        return [choice for choice in typing.get_args(kind) if choice != value]
    if kind is bool:
        return [not value]
    if kind is int:
        return [value + 1, 2 * value, 1]
    if typing.get_origin(kind) is tuple:
        return [tuple(2 * entry for entry in value or (4,)), (*value, *value[-1:])]
    return {"optimizer": ["sgd"], "activation": ["tanh"], "blocks": ["8x1,1x1", "4x1,1x1"]}[field.name]


def built(name, **options):
    """Stages of a model on labelled images, with options that a new run would take."""
    subjects = testing.build_subjects(name, abstract=True, **options)
    settings = subjects[0].settings
    config, declared = settings.config, fields(type(settings.config))
    idle = [n for n, field in declared.items() if n not in options and needs.unmet(field, config)]
    config = dataclasses.replace(config, **{n: declared[n].default for n in idle})
    member = Member(0, settings.module.HParams())
    setup.refuse_idle(settings._replace(config=config, members=(member,)), subjects[0].spec)
    return subjects


def computed(subject):
    """All that a stage computes, as functions of hyperparameters to trace, the cheap ones first: of the last stage evaluation and
    samples, and a step."""
    state = jax.eval_shape(subject.states_after((0,)), subject.finished)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), state)
    model, batch, variables = subject.recipe.model, subject.input_batch(), state.variables

    def evaluated(hparams):
        resolved = resolved_at(hparams)
        z = model.encode(KEY, variables, resolved, batch).sample(KEY)
        return z, model.decode(variables, resolved, z, batch).mean, model.sample(KEY, variables, resolved, FEW).mean

    def weighted(hparams):
        return model.log_weights(KEY, variables, resolved_at(hparams), batch, FEW)

    def stepped(hparams):
        after, metrics = subject.algorithm.step(state._replace(hparams=hparams), subject.stored_batch())
        return after.variables, after.opt_state, after.average, metrics

    is_last = subject.stage + 1 == len(subject.recipe.stages)
    of_last = [evaluated, *([] if model.log_weights is None else [weighted])] if is_last else []
    return [*of_last, stepped]


def resolved_at(hparams):
    from vaex.schedules import resolve

    return resolve(hparams, jnp.zeros((), jnp.int32))


def programs(subjects):
    """Yield the texts of what training begins with, and then of all programs: a caller may stop at the first that differs."""
    for subject in subjects:
        hparams = jax.tree.map(lambda leaf: leaf[0], subject.hparams)
        yield str(jax.eval_shape(subject.states_after((0,)), subject.finished))
        yield plain(jax.make_jaxpr(lambda s=subject, h=hparams: s.algorithm.init(KEY, h, s.stored_batch()))())
        for function in computed(subject):
            yield plain(jax.make_jaxpr(lambda f=function, h=hparams: f(h))())


def plain(jaxpr):
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def differs(subjects, expected):
    """Whether the programs of a model differ from those expected."""
    return any(text != other for text, other in itertools.zip_longest(programs(subjects), expected))


def is_idle(field, config, name_of_likelihood):
    """Whether the declarations say that the field does nothing here."""
    if needs.unmet(field, config):
        return True
    if field.name == "sigma":
        return getattr(config, "likelihood_scale", "fixed") != "fixed"
    return field.name == "likelihood_scale" and name_of_likelihood not in SCALED


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_every_option_changes_the_program_or_is_refused(name):
    config = built(name)[0].settings.config
    _, before = (list(programs(built(name))) for _ in range(2))  # a first trace may fill caches
    assert not differs(built(name), before), "the text differs from itself"
    silent = []
    for field in fields(type(config)).values():
        value = getattr(config, field.name)
        if field.name in ELSEWHERE:
            continue
        changes = False
        for other in others(field, value):
            try:
                changes = differs(built(name, **{field.name: other}), before)
            except (UserError, ValueError):
                changes = True  # refused
            if changes:
                break
        if not changes:
            silent.append(field.name)
    assert not silent


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_every_hyperparameter_reaches_the_program_or_is_refused(name):
    """Each is an argument of a length of its own, of a program from which jax prunes those that nothing depends on."""
    subjects = testing.build_subjects(name, abstract=True)
    config, hparams = subjects[0].settings.config, subjects[0].settings.module.HParams()
    declared = fields(type(hparams))
    names = [field.name for field in dataclasses.fields(hparams)]
    used = set()
    for subject in subjects:
        traced = jax.tree.map(lambda leaf: leaf[0], subject.hparams)
        alive = [n for n in names if getattr(traced, n) is not None]

        def run(*numbers, subject=subject, traced=traced, alive=alive):
            values = {n: constant(0.0)._replace(start=x[0], stop=x[0]) for n, x in zip(alive, numbers, strict=True)}
            replaced = dataclasses.replace(traced, **values)
            return [function(replaced) for function in computed(subject)]

        arguments = [jnp.ones(101 + index) for index in range(len(alive))]
        text = jax.jit(run).lower(*arguments).as_text()
        main = text[text.index("@main") : text.index("{", text.index("@main") + text[text.index("@main") :].index(")"))]
        used |= {n for index, n in enumerate(alive) if f"tensor<{101 + index}xf32>" in main}
    likelihood = getattr(config, "likelihood", "auto")
    on = [n for n in names if getattr(hparams, n) is not None]  # what is off has tests of its own
    silent = [n for n in on if n not in used and not is_idle(declared[n], config, likelihood)]
    assert not silent


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vae", {"channels": (8, 8)}, "--channels does nothing beside --network=mlp"),
        (
            "vae",
            {"likelihood_scale": "fixed", "likelihood": "bernoulli"},
            "--likelihood_scale=fixed does nothing beside",
        ),
        ("vae", {"mean": "bounded", "likelihood": "bernoulli"}, "--mean=bounded does nothing beside"),
        ("vae", {"sigma": 2.0}, "--sigma does nothing beside --likelihood_scale=global"),
        ("vae", {"posterior_scale": 2.0}, "--posterior_scale does nothing beside --posterior=diagonal"),
        (
            "denoising_autoencoder",
            {"corruption_rate": 0.2},
            "it is for --corruption=masking or --corruption=salt_and_pepper",
        ),
        ("sparse_autoencoder", {"dropout_rate": 0.2}, "--dropout_rate does nothing beside --dropout=false"),
        (
            "flow_vae",
            {"flow_hidden": (8,), "posterior_flow": "planar", "prior_flow": "none"},
            "--flow_hidden does nothing",
        ),
        ("vq_vae", {"entropy": 0.2}, "it is for --quantizer=lookup_free"),
    ],
)
def test_what_would_do_nothing_is_refused(model, options, message):
    import numpy as np

    import vaex

    with pytest.raises(UserError, match=re.escape(message)):
        vaex.build(model, np.zeros((20, 8, 8), np.uint8), **options)


def test_what_has_an_effect_is_not_refused():
    import numpy as np

    import vaex

    x = np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8)
    vaex.build("vae", x, channels=(8, 8), network="conv")
    vaex.build("vae", x, sigma=2.0, likelihood="gaussian", likelihood_scale="fixed")
    vaex.build("flow_vae", x, flow_hidden=(8,), posterior_flow="planar")
