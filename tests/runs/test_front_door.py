"""Training, evaluating, continuing and saving from Python, in memory and in a directory."""

import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.checkpoints import assert_same_arrays
from helpers.scripts import script
from helpers.trained_runs import vaex as command

import vaex
from vaex.errors import UserError
from vaex.schedules import ramp
from vaex.training import loop
from vaex.training import population as members

QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False}
X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
Y = np.arange(60) % 3


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state.variables)]


def assert_equal_bits(first, second):
    for left, right in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture
def nothing_compiles(monkeypatch):
    """Neither a state is initialised nor a program of training compiled."""
    monkeypatch.setattr(members, "init", lambda *args, **kwargs: pytest.fail("initialised"))
    monkeypatch.setattr(loop, "compile_program", lambda *args, **kwargs: pytest.fail("compiled"))


@pytest.fixture(scope="module")
def population():
    return vaex.train("beta_vae", X, beta=[1, ramp(0, 4, 10)], seeds=range(2), steps=10, **QUICK)


@pytest.mark.slow
def test_a_run_is_a_sequence_of_its_members(population):
    assert len(population) == len(list(population)) == 4
    assert [name.split("_")[0] for name in population.names] == [
        "beta=1",
        "beta=1",
        "beta=ramp-0-4-10",
        "beta=ramp-0-4-10",
    ]
    assert population[3].encode(X[:5]).mean.shape == (5, 2)
    assert population[-1] is population[3]
    assert population.step == 10 and [row["step"] for row in population.rows()] == [5, 10]
    with pytest.raises(IndexError, match="has 4 member"):
        population[4]
    with pytest.raises(AttributeError, match="choose one of them first"):
        population.encode(X[:5])


@pytest.mark.slow
def test_a_run_in_memory_leaves_nothing_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = vaex.train("vae", X, steps=5, **QUICK)
    run.evaluate(eval_samples=2, progress=False)
    assert run.directory is None and list(tmp_path.rglob("*")) == []
    assert run.encode(X[:3]).mean.shape == (3, 2)


@pytest.mark.slow
def test_evaluation_and_figures(population):
    summary = population.evaluate(eval_samples=2, progress=False)
    assert population.summary is summary and len(summary["members"]) == 4
    assert "elbo" in population.table()
    drawn = population.figures(1)
    assert {"reconstructions", "samples", "traversals", "training_curves"} <= set(drawn)
    with pytest.raises(UserError, match="no option is called 'samples'"):
        population.evaluate(samples=3)


@pytest.mark.slow
def test_data_is_passed_in_the_layout_of_the_run():
    x = np.random.default_rng(1).integers(0, 256, (40, 3, 8, 6), np.uint8)
    run = vaex.train("vae", x, layout="chw", steps=2, **QUICK)
    assert run.continue_to(3, x, progress=False).step == 3
    assert run.evaluate(x[:30], eval_samples=2, progress=False)["evaluation"]["examples"] == 3
    with pytest.raises(UserError, match="loaded by name"):
        run.evaluate(x, manual_dir="here")


@pytest.mark.slow
def test_other_data_is_evaluated_and_not_kept(population):
    before = population.summary
    other = population.evaluate(X[:40], eval_samples=2, progress=False)
    assert other["evaluation"]["examples"] == 4 and population.summary is before
    with pytest.raises(UserError, match="give data of that kind"):
        population.evaluate(np.zeros((40, 9, 9), np.uint8))


@pytest.mark.slow
@pytest.mark.optimised
def test_the_same_bits_as_the_command_line(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=X)
    done = command(tmp_path / "run", "--model=beta_vae", f"--dataset={path}", "--beta=2", "--steps=12", "--no-figures")
    assert done.code == 0, done.err
    by_command = vaex.load(tmp_path / "run")
    in_memory = vaex.train("beta_vae", X, beta=2, steps=12, **QUICK)
    assert_equal_bits(by_command, in_memory)
    assert by_command.rows() == in_memory.rows()


@pytest.mark.slow
@pytest.mark.optimised
def test_callbacks_change_no_bit_and_see_everything():
    calls = {"rows": [], "checkpoints": [], "runs": []}
    callback = vaex.Callback(
        on_rows=lambda rows, stage: calls["rows"].extend((stage, row["step"]) for row in rows),
        on_checkpoint=lambda step, state, stage: calls["checkpoints"].append((step, int(state.step[0]))),
        on_end=lambda run: calls["runs"].append(run),
    )
    without = vaex.train("vae", X, steps=12, **QUICK)
    run = vaex.train("vae", X, steps=12, callbacks=[callback], checkpoint_every=6, **QUICK)
    assert_equal_bits(without, run)
    assert calls["rows"] == [("model", 5), ("model", 10)]
    assert calls["checkpoints"] == [(0, 0), (6, 6), (12, 12)]
    assert calls["runs"] == [run]
    with pytest.raises(UserError, match=r"give vaex\.Callback"):
        vaex.train("vae", X, steps=1, callbacks=[print], **QUICK)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("kept", [False, True])
def test_a_continued_run_is_one_that_never_stopped(tmp_path, kept):
    out = {"out": tmp_path / "run"} if kept else {}
    straight = vaex.train("vae", X, seeds=range(2), steps=13, **QUICK)
    half = vaex.train("vae", X, seeds=range(2), steps=6, **QUICK, **out)
    continued = half.continue_to(13, progress=False)
    assert_equal_bits(straight, continued)
    assert straight.rows() == continued.rows()
    assert half.step == 6 and continued.step == 13
    with pytest.raises(UserError, match="trained to step 13 already"):
        continued.continue_to(5, progress=False)
    with pytest.raises(UserError, match="not the data"):
        continued.continue_to(20, X[:50], progress=False)


@pytest.mark.slow
def test_a_saved_run_is_loaded_and_goes_on(tmp_path, population):
    folder = population.save(tmp_path / "kept")
    loaded = vaex.load(folder)
    assert_equal_bits(population, loaded)
    assert loaded.names == population.names and loaded.rows() == population.rows()
    with pytest.raises(UserError, match="is not empty"):
        population.save(folder)
    with pytest.raises(UserError, match="give data="):
        loaded.continue_to(12, progress=False)
    assert loaded.continue_to(12, X, progress=False).step == 12
    assert_same_arrays(folder, loaded.save(tmp_path / "copy"))


@pytest.mark.slow
def test_the_same_call_continues_a_run_in_its_directory(tmp_path):
    first = vaex.train("vae", X, steps=5, out=tmp_path / "run", **QUICK)
    again = vaex.train("vae", X, steps=9, out=tmp_path / "run", evaluate=True, eval_samples=2, **QUICK)
    assert (first.step, again.step) == (5, 9)
    assert (tmp_path / "run" / "figures" / "reconstructions.png").exists() and again.summary is not None
    finished = vaex.train("vae", X, steps=9, out=tmp_path / "run", eval_samples=2, **QUICK)
    assert_equal_bits(again, finished)
    with pytest.raises(UserError, match="another configuration"):
        vaex.train(
            "vae",
            X,
            steps=9,
            latent_dim=3,
            out=tmp_path / "run",
            **{k: v for k, v in QUICK.items() if k != "latent_dim"},
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        ("vea", X, {}, "vae"),
        ("vae", X, {"latent_dims": 3}, "latent_dim"),
        ("vae", X, {"latent_dim": 0}, "at least 1"),
        ("vae", X, {"manual_dir": "here"}, "for data that is loaded by name"),
        ("vae", X, {"learning_rate": "fast"}, "learning_rate"),
        ("vae", X, {"learning_rate": {"rate": 1e-3}}, "expected a number, a schedule"),
        ("beta_vae", X, {"beta": [1, 1.0]}, "stands twice"),
        ("beta_vae", X, {"beta": []}, "no value"),
        ("vae", X, {"batch_size": 100}, "at most 48"),
        ("vae", {"z": X}, {}, "'z'"),
        ("vae", {"x": X, "x_train": X}, {}, "keep one"),
        ("vae", {"x": X, "y_test": Y}, {}, "no x_test"),
        ("vae", [[1, 2], [3]], {}, "array"),
        ("vae", X, {"profile": True, "steps": 30}, "give out="),
        ("vae", X, {"coordinator_address": "localhost:1"}, "give out="),
        ("conditional_vae", X, {}, "no labels"),
        ("vae", X, {"decoder": "nowhere:Decoder"}, "there is no|No module"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line_before_anything_is_compiled(
    model, data, options, message, nothing_compiles
):
    with pytest.raises(UserError, match=message) as caught:
        vaex.train(model, data, **{"steps": 1, **options}, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_arrays_of_every_kind():
    labelled = vaex.Dataset.from_arrays(X, Y, x_test=X[:7], y_test=Y[:7], name="mine")
    assert len(labelled.splits["test"]["x"]) == 7 and labelled.spec.num_classes == 3 and labelled.spec.name == "mine"
    for data in ((X, Y), {"x": jnp.asarray(X), "y": Y}, labelled):
        run = vaex.train("conditional_vae", data, steps=2, **QUICK)
        assert run.sample(jax.random.key(0), 2, labels=1).shape == (2, 8, 8, 1)
    before = X.copy()
    mutable = X.copy()
    dataset = vaex.Dataset.from_arrays({"x": mutable, "x_validation": mutable[:5], "x_test": mutable[:5]})
    mutable[:] = 0
    np.testing.assert_array_equal(dataset.splits["train"]["x"][..., 0], before)


# --- batches ----------------------------------------------------------------------------------------------------------


def batch_of(step):
    return {"image": np.random.default_rng(step).integers(0, 255, (16, 8, 8), np.uint8), "label": np.arange(16) % 3}


class Loader:
    """An iterable that begins again, as a data loader does."""

    def __iter__(self):
        return (tuple(batch_of(step).values()) for step in range(5))


@pytest.mark.slow
@pytest.mark.optimised
def test_batches_by_step_continue_exactly():
    def dataset():
        return vaex.Dataset.from_batches(batch_of, x="image", y="label")

    straight = vaex.train("conditional_vae", dataset(), steps=9, **QUICK)
    half = vaex.train("conditional_vae", dataset(), steps=4, **QUICK)
    assert_equal_bits(straight, half.continue_to(9, dataset(), progress=False))
    held = dataset().splits["validation"]["x"]
    assert len(held) >= 500 and straight.spec.num_classes == 3
    np.testing.assert_array_equal(held[:16, ..., 0], batch_of(0)["image"])


@pytest.mark.slow
@pytest.mark.optimised
def test_an_iterable_continues_exactly_and_a_generator_within_the_process():
    arrays = tuple(batch_of(99).values())
    dataset = vaex.Dataset.from_batches(Loader(), y="label", validation=arrays, test=arrays)
    straight = vaex.train("conditional_vae", dataset, steps=9, **QUICK)
    half = vaex.train("conditional_vae", dataset, steps=4, **QUICK)
    assert_equal_bits(straight, half.continue_to(9, progress=False))
    generator = (np.random.default_rng(step).random((16, 5), np.float32) for step in range(2000))
    run = vaex.train("vae", vaex.Dataset.from_batches(generator), steps=4, **QUICK)
    assert run.continue_to(6, progress=False).step == 6
    assert run.spec.shape == (5,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batches", "arguments", "message"),
    [
        (batch_of, {}, "name the columns"),
        (Loader(), {}, "give validation="),
        (lambda: 3, {}, "takes no argument"),
        (lambda step: np.zeros((16, 4 + step), np.float32), {}, "all batches need one shape"),
        (lambda step: np.full((600, 4), step > 3, np.uint8) * 7, {"x": "x"}, None),
        (iter([np.zeros((600, 4), np.float32)] * 2), {}, "there are only 2 batches"),
        (
            Loader(),
            {"y": "label", "validation": {"z": X}, "test": X},
            "validation has none of the columns, expected x and y",
        ),
    ],
)
def test_batches_that_cannot_be_used(batches, arguments, message):
    if message is None:
        with pytest.raises(UserError, match="levels"):
            vaex.train("vae", vaex.Dataset.from_batches(batches, **arguments), steps=5, **QUICK)
        return
    with pytest.raises(UserError, match=message):
        vaex.train("vae", vaex.Dataset.from_batches(batches, **arguments), steps=5, **QUICK)


def test_a_batch_size_that_is_not_the_batches_is_refused():
    with pytest.raises(UserError, match="hold 16 examples each"):
        vaex.train("vae", vaex.Dataset.from_batches(batch_of, x="image"), steps=2, batch_size=8, **QUICK)
    with pytest.raises(UserError, match="examples_per_epoch"):
        vaex.train("vae", vaex.Dataset.from_batches(batch_of, x="image"), epochs=2, **QUICK)


# --- own networks -----------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Reads x, and the condition where the model has one."""

    width: int = 8

    @nn.compact
    def __call__(self, x, *condition):
        return nn.relu(nn.Dense(self.width)(jnp.concatenate([x.reshape(len(x), -1), *condition], axis=-1)))


class Decoder(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden, self.output = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 64, rngs=rngs)

    def __call__(self, z):
        return self.output(nnx.relu(self.hidden(z))).reshape(-1, 8, 8, 1)


def init_linear(key, z, *condition):
    return {"kernel": 0.1 * jax.random.normal(key, (2, 64))}


def apply_linear(params, z, *condition):
    return z @ params["kernel"]


LINEAR = (init_linear, apply_linear)
OWN = QUICK | {"hidden": (256, 256)}  # own networks leave no use for another width


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["beta_vae", "iwae", "wae", "flow_vae", "conditional_vae", "m2_vae", "factor_vae", "autoencoder"]
)
def test_own_networks_in_every_family(model):
    run = vaex.train(model, (X, Y), encoder=Encoder(), decoder=LINEAR, steps=3, **OWN)
    labels = None if run.recipe.labels is None or run.recipe.labels.classify else Y[:4]
    assert run.reconstruct(X[:4], labels).shape == (4, 8, 8, 1)
    (kernel,) = [group["decoder"]["kernel"] for group in run.variables.params.values() if "decoder" in group]
    assert kernel.shape == (2, 64) and not np.array_equal(kernel, np.zeros((2, 64)))


@pytest.mark.slow
@pytest.mark.optimised
def test_members_with_own_networks_equal_solo_runs():
    arguments = {"encoder": Encoder, "decoder": Decoder, "steps": 10, **OWN}
    both = vaex.train("vae", X, seeds=[3, 4], population_strategy="members", **arguments)
    solo = vaex.train("vae", X, seeds=4, **arguments)
    for left, right in zip(jax.tree.leaves(both[1].variables), jax.tree.leaves(solo.variables), strict=True):
        np.testing.assert_array_equal(left, right)
    first, second = (jax.tree.leaves(model.variables.params["vae"]["decoder"]) for model in both)
    assert not all(np.array_equal(left, right) for left, right in zip(first, second, strict=True))


@pytest.mark.slow
def test_an_nnx_module_is_the_start_of_every_member():
    decoder = Decoder(rngs=nnx.Rngs(7))
    run = vaex.train("vae", X, decoder=decoder, seeds=range(2), steps=1, learning_rate=0.0, **QUICK)
    for model in run:
        np.testing.assert_array_equal(
            model.variables.params["vae"]["decoder"]["hidden"]["kernel"], decoder.hidden.kernel[...]
        )


@pytest.mark.slow
def test_a_run_with_own_networks_is_loaded_with_them(tmp_path):
    run = vaex.train(
        "vae",
        X,
        encoder=Encoder(width=5),
        decoder=LINEAR,
        steps=3,
        out=tmp_path / "run",
        **OWN,
    )
    with pytest.raises(UserError, match=r"encoder is .*Encoder\(.*pass it, as encoder="):
        vaex.load(tmp_path / "run")
    loaded = vaex.load(tmp_path / "run", encoder=Encoder(width=5), decoder=LINEAR)
    assert_equal_bits(run, loaded)
    with pytest.raises(UserError, match="trained without one"):
        vaex.load(tmp_path / "run", encoder=Encoder(width=5), decoder=LINEAR, optimizer="adam")


@pytest.mark.slow
def test_networks_by_name_from_a_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "my_nets.py"
    path.write_text(
        "import flax.linen as nn\n\nclass Encoder(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
        "        return nn.relu(nn.Dense(4)(x.reshape(len(x), -1)))\n"
    )
    done = command(tmp_path / "run", f"--encoder={path}:Encoder", "--steps=4", "--model=vae", "--no-figures")
    assert done.code == 0, done.err
    monkeypatch.setattr("sys.modules", {name: module for name, module in sys.modules.items() if "my_nets" not in name})
    with pytest.raises(UserError, match=r"importing it runs code; say trust=True .--trust .*, or pass encoder="):
        vaex.load(tmp_path / "run")
    assert script("bounds").main([str(tmp_path / "run")]) == 2 and "--trust" in capsys.readouterr().err
    assert script("bounds").main([str(tmp_path / "run"), "--trust", "--samples=2", "--images=2"]) == 0
    run = vaex.load(tmp_path / "run", trust=True)
    assert run.variables.params["vae"]["encoder"]["network"]["Dense_0"]["kernel"].shape == (64, 4)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x.reshape(len(x), -1))


class NormalisedByNnx(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(64, rngs=rngs)

    def __call__(self, x):
        return self.norm(x.reshape(len(x), -1))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(x.reshape(len(x), -1))


class DroppedByNnx(nnx.Module):
    def __init__(self, *, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"encoder": DroppedByNnx}, "random numbers of its own"),
        ({"encoder": Normalised()}, "state of its own"),
        ({"encoder": NormalisedByNnx}, "state of its own"),
        ({"encoder": Dropped()}, "random numbers of its own"),
        ({"encoder": 3}, "expected a Flax Linen module"),
        ({"encoder": lambda x: x}, "expected a Flax Linen module"),
        ({"encoder": nn.Dense}, "fails"),
        ({"encoder": Decoder}, "fails on x of shape"),
        ({"decoder": Encoder()}, "expected 64 numbers for each example"),
        ({"encoder": Encoder(), "decoder": LINEAR, "activation": "tanh"}, "does nothing beside"),
        ({"encoder": "my_nets"}, "MODULE:NAME"),
        ({"encoder": "math:nothing"}, "math has no nothing"),
    ],
)
def test_networks_that_cannot_be_used(networks, message, nothing_compiles):
    with pytest.raises(UserError, match=message) as caught:
        vaex.train("vae", X, **networks, steps=1, progress=False)
    assert "\n" not in str(caught.value)


def test_a_pair_whose_parameters_are_no_floats_is_refused():
    pair = (
        lambda key, x: {"kernel": jax.random.normal(key, (64, 8)), "count": jnp.zeros((), jnp.int32)},
        lambda params, x: x.reshape(len(x), -1) @ params["kernel"],
    )
    with pytest.raises(UserError, match="encoder: init returns an array of int32 among the parameters") as caught:
        vaex.train("vae", X, encoder=pair, steps=1, progress=False)
    assert "\n" not in str(caught.value)


# --- the pure functions -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_is_built_for_a_loop_of_ones_own():
    recipe, hparams, spec = vaex.build("beta_vae", like=X, latent_dim=2, hidden=(8,), beta=3.0)
    variables = recipe.model.init(jax.random.key(0), {"x": jnp.zeros((1, *spec.shape))})
    batch = {"x": vaex.data.prepare(spec, jax.random.key(1), X[:5, ..., None])}
    outcome = recipe.model.objective(jax.random.key(2), variables, hparams, batch, train=True)
    expected = jnp.mean(outcome.metrics["reconstruction"] + 3.0 * outcome.metrics["kl"])
    np.testing.assert_allclose(outcome.losses["vae"], expected, rtol=1e-6)
    with pytest.raises(UserError, match="several values"):
        vaex.build("beta_vae", like=X, beta=[1, 2])
    assert vaex.build("vae", like=np.zeros((9, 3, 8, 6), np.uint8), layout="chw").spec.shape == (8, 6, 3)
    with pytest.raises(UserError, match="manual_dir is for data that is loaded by name"):
        vaex.build("vae", like=X, manual_dir="here")


def test_nothing_of_the_working_directory_is_imported(tmp_path, monkeypatch):
    (tmp_path / "my_vae.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no model is called 'my_vae'"):
        vaex.train("my_vae", X)
    assert pathlib.Path("my_vae.py").exists()
    with pytest.raises(RuntimeError, match="imported"):
        vaex.train("my_vae.py", X)
