"""From words to settings: the grammar of flags, every refusal, and what makes two runs the same run."""

import dataclasses
import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers.command import parse

from vaex import models, schedules
from vaex.cli import main as cli
from vaex.configuration.declare import fields
from vaex.configuration.grammar import hyperparameter_texts, read_hyperparameter, write_hyperparameter
from vaex.configuration.run_options import GROUPS
from vaex.configuration.settings import DEFAULTS, Settings, settings, stage_fields
from vaex.errors import UserError
from vaex.runs import lifecycle
from vaex.runs.config_file import differences, identity, restore_settings, run_directory

VAE = "--model=beta_vae"
INFINITY = float("inf")


def parsed(*flags: str, model: str = "beta_vae") -> Settings:
    return parse([f"--model={model}", *flags])


def values(settings: Settings, name: str) -> list[str]:
    return [hyperparameter_texts(member.hparams)[name] for member in settings.members]


def switches(settings: Settings) -> list[tuple]:
    return [(member.hparams.clip_norm, member.hparams.average_decay) for member in settings.members]


# --- grammar ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "get", "expected"),
    [
        (["--latent_dim=3"], lambda s: s.config.latent_dim, 3),
        (["--latent-dim=3"], lambda s: s.config.latent_dim, 3),
        (["--latent-dim", "3"], lambda s: s.config.latent_dim, 3),
        (["--hidden=500x400"], lambda s: s.config.hidden, (500, 400)),
        (["--hidden="], lambda s: s.config.hidden, ()),
        (["--channels", "8x16"], lambda s: s.config.channels, (8, 16)),
        (["--network=conv"], lambda s: s.config.network, "conv"),
        (["--steps", "7"], lambda s: s.run.steps, 7),
        (["--epochs=0.5"], lambda s: (s.run.steps, s.run.epochs), (None, 0.5)),
        (["--overwrite"], lambda s: s.run.overwrite, True),
        (["--overwrite", "--steps=7"], lambda s: (s.run.overwrite, s.run.steps), (True, 7)),
        (["--no-figures"], lambda s: s.evaluation.figures, False),
        (["--no_figures"], lambda s: s.evaluation.figures, False),
        (["--figures=false"], lambda s: s.evaluation.figures, False),
        (["--figures", "True"], lambda s: s.evaluation.figures, True),
        (["--out=a b/ü"], lambda s: s.run.out, "a b/ü"),
        (["--out=a=b"], lambda s: s.run.out, "a=b"),
        (["--dataset", "x.npz"], lambda s: s.data.dataset, "x.npz"),
        ([], lambda s: s.data.dataset, "digits"),
        ([], lambda s: s.run.steps, DEFAULTS["steps"]),
        (["--population-strategy=vmap"], lambda s: s.run.population_strategy, "vmap"),
        (["--clip_norm=1"], switches, [(1.0, None)]),
        (["--average_decay=0,0.9"], switches, [(None, None), (None, 0.9)]),
        (["--average_decay=0.0", "--clip_norm=Infinity"], switches, [(None, None)]),
    ],
)
def test_flags_become_settings(flags, get, expected):
    assert get(parsed(*flags)) == expected


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("4", ["4"]),
        ("4.0", ["4"]),
        ("1e-3,0.01", ["0.001", "0.01"]),
        ("1, 4", ["1", "4"]),
        ("0.123456789", ["0.12345679"]),
        ("ramp:0:4:5000", ["ramp:0:4:5000"]),
        ("ramp:0:4:5e3:1e1,2", ["ramp:0:4:5000:10", "2"]),
        ("cosine:1:0:100", ["cosine:1:0:100"]),
        ("cycle:0:1:100", ["cycle:0:1:100:0.5"]),
        ("cycle:0:1:7:0.3", ["cycle:0:1:7:0.3"]),
    ],
)
def test_hyperparameters_are_spelt_one_way(text, spelt):
    settings = parsed(f"--beta={text}")
    assert values(settings, "beta") == spelt
    for part, written in zip(text.split(","), spelt, strict=True):
        assert schedules.parse(written) == schedules.parse(part)


@pytest.mark.parametrize("word", ["--clip_norm=1e-12", "--sigma=1e-6", "--average_decay=1", "--beta=0", "--beta=3e38"])
def test_a_range_includes_its_ends(word):
    assert len(parsed(word).members) == 1


@pytest.mark.parametrize("model", models.MODELS)
def test_the_text_of_a_default_is_the_default(model):
    hparams = models.module(model).HParams
    for name, field in fields(hparams).items():
        text = write_hyperparameter(field, getattr(hparams(), name))
        (value,) = read_hyperparameter(field, text)
        assert (value is None) == (field.default is None), name
        if value is not None:
            assert schedules.as_schedule(value) == schedules.as_schedule(field.default) == schedules.parse(text), name


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (3,)), ("0:3", (0, 1, 2)), ("5,1", (5, 1)), ("0:2,7", (0, 1, 7)), ("4294967295", (2**32 - 1,))],
)
def test_seeds(text, seeds):
    assert tuple(member.seed for member in parsed(f"--seeds={text}").members) == seeds


def test_the_grid_varies_seeds_fastest_and_flags_in_the_models_order():
    settings = parsed("--seeds=0:2", "--beta=1,ramp:0:4:10", "--learning_rate=0.1,0.2")
    texts = [(hyperparameter_texts(m.hparams), m.seed) for m in settings.members]
    grid = [(text["learning_rate"], text["beta"], seed) for text, seed in texts]
    assert grid == list(itertools.product(["0.1", "0.2"], ["1", "ramp:0:4:10"], [0, 1]))
    assert settings.varied == ("learning_rate", "beta")
    assert all(m.hparams.sigma == 1.0 for m in settings.members)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Data files, good and bad; also a file where a directory is wanted."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    arrays = {
        "nan": np.where(rng.random((10, 8, 8)) < 0.5, np.nan, 0.5),
        "empty": np.zeros((0, 8, 8)),
        "five": np.zeros((3, 2, 2, 2, 2)),
        "words": np.array([["a", "b"]]),
        "few": rng.integers(0, 256, (6, 8, 8)).astype(np.uint8),
        "small": rng.integers(0, 256, (30, 4, 4)).astype(np.uint8),
        "real": rng.normal(size=(60, 5)),
    }
    for name, x in arrays.items():
        np.savez(folder / f"{name}.npz", x=x)
    (folder / "file").write_text("in the way")
    return folder


# the words after --model=beta_vae (DATA is the folder above), and what the line must say
REFUSED = [
    (["--dataset=mnits"], "did you mean mnist"),
    (["--dataset=DATA/none.npz"], "no such file"),
    (["--dataset=DATA/nan.npz"], "NaN"),
    (["--dataset=DATA/empty.npz"], "empty"),
    (["--dataset=DATA/five.npz"], "--kind=volume, or sequences of images"),
    (["--dataset=DATA/words.npz"], "expected uint8, bool or float"),
    (["--dataset=DATA/few.npz", "--batch_size=100"], "give at most 4"),
    (["--batch_size=1398"], "give at most 1397"),
    (["--dataset=DATA/small.npz", "--network=conv"], "use --network=mlp"),
    (["--dataset=DATA/real.npz", "--likelihood=bernoulli"], "use --likelihood=gaussian"),
    (["--dataset=DATA/real.npz", "--binarize=dynamic"], "--binarize=none"),
    (["--dequantize=uniform", "--binarize=dynamic"], "set one of them to none"),
    (["--latent_dim=0"], "expected at least 1"),
    (["--log_every=2,4"], "only hyperparameters, --seeds and options of the model take several values"),
    (["--latent_dim=two"], "expected a whole number"),
    (["--latent_dim=1e99"], "expected a whole number"),
    (["--hidden=500,500"], "joined by x, such as 500x500"),
    (["--hidden=0"], "expected numbers of at least 1, such as 500x500"),
    (["--hidden"], "write --hidden=VALUE"),
    (["--network=conv", "--hidden="], "at least one width"),
    (["--network=cnn"], "did you mean conv"),
    (["--kl=monte_carol"], "did you mean monte_carlo"),
    (["--likelihood=bernouli"], "did you mean bernoulli"),
    (["--activation=rellu"], "did you mean relu"),
    (["--optimizer=adma"], "adam"),
    (["--num_samples=0"], "expected at least 1"),
    (["--steps=0"], "expected at least 1"),
    (["--steps=1.5"], "expected a whole number"),
    (["--steps=2147483648"], "expected at most 2147483647"),
    (["--steps=5", "--epochs=1"], "give one of them"),
    (["--epochs=0"], "more than 0"),
    (["--epochs=nan"], "a finite number"),
    (["--epochs=1e300"], "expected at most"),
    (["--batch_size=0"], "expected at least 1"),
    (["--log_every=0"], "expected at least 1"),
    (["--checkpoint_every=0"], "expected at least 1"),
    (["--eval_samples=0"], "expected at least 1"),
    (["--eval_images=0"], "expected at least 1"),
    (["--eval_split=train"], "test, validation"),
    (["--devices=4096"], "this machine has"),
    (["--data_seed=-1"], "expected at least 0"),
    (["--data_seed=18446744073709551616"], "expected at most"),
    (["--seeds=a"], "0:8 (0 to 7) or 1,5"),
    (["--seeds=3:3"], "at least one seed"),
    (["--seeds=1,0:3"], "all different"),
    (["--seeds=-1"], "from 0 to 2^32 - 1"),
    (["--seeds=4294967296"], "from 0 to 2^32 - 1"),
    (["--seeds=0:99999999999"], "at most 65536"),
    (["--beta=x"], "ramp:START:STOP:STEPS"),
    (["--beta=1,,2"], "ramp:START:STOP:STEPS"),
    (["--beta=ramp:0:4"], "ramp takes 3 or 4 numbers"),
    (["--beta=nan"], "nan is not a value"),
    (["--beta=inf"], "finite"),
    (["--beta=-1"], "at least 0"),
    (["--beta=ramp:1:-1:10"], "at least 0"),
    (["--beta=1,1.0"], "stands twice"),
    (["--beta"], "write --beta=VALUE"),
    (["--beta=1", "--beta=2"], "joined by commas"),
    (["--learning_rate=-1"], "at least 0"),
    (["--learning_rate=inf"], "finite"),
    (["--average_decay=1.5"], "from 0 to 1"),
    (["--clip_norm=0"], "at least"),
    (["--clip_norm=ramp:1:inf:10"], "finite"),
    (["--sigma=0"], "at least"),
    (["--gamma=3"], "models that have it: annealed_vae"),
    (["--capcity=3"], "did you mean capacity"),
    (["--stpes=3"], "did you mean steps"),
    (["--qqq=3"], "--model=beta_vae --help"),
    (["--clip=true"], "clip_norm or crop"),
    (["--figures=maybe"], "expected true or false"),
    (["--figures", "--no_figures"], "contradict"),
    (["--no_beta"], "not a flag"),
    (["beta=1"], "write --flag=value"),
    (["-beta=1"], "write --flag=value"),
    (["--"], "not a flag"),
    (["--out="], "write --out=VALUE"),
    (["--out=DATA/file"], "choose another directory"),
    (["--out=DATA/file/run"], "choose another directory"),
    (["--out=DATA"], "holds other files"),
]


def refusal(capsys, monkeypatch, tmp_path, flags) -> str:
    """The one line that the flags are refused with; training must not be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lifecycle, "train", lambda *args, **kwargs: pytest.fail("this reached training"))
    assert cli.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vaex: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(("flags", "says"), REFUSED, ids=[" ".join(flags) for flags, _ in REFUSED])
def test_one_line_names_the_remedy(capsys, monkeypatch, tmp_path, files, flags, says):
    assert says in refusal(capsys, monkeypatch, tmp_path, [VAE, *(flag.replace("DATA", str(files)) for flag in flags)])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--model=NAME is missing"),
        (["--model"], "--model=NAME is missing"),
        (["--model="], "beta_vae"),
        (["--model=beta_vea"], "did you mean beta_vae"),
        (["--model=no_package.model"], "no_package.model: there is no such module"),
        (["--model=vaex.models.nothing"], "vaex.models.nothing: there is no such module"),
        (["--model=.relative"], "there is no such module"),
        (["--model=a b"], "no model is called"),
        (["--model=os.path"], "lacks Config, HParams, build"),
        (["--model=vaex.models.gaussian"], "lacks build"),
        (["--model=vae", "--beta=3"], "models that have it: beta_vae"),
        (["--model=autoencoder", "--posterior=full"], "models that have it: vae, "),
        (["--model=annealed_vae", "--capacity=-1"], "at least 0"),
    ],
)
def test_models_are_refused_with_a_remedy(capsys, monkeypatch, tmp_path, flags, says):
    assert says in refusal(capsys, monkeypatch, tmp_path, flags)


def test_a_path_that_is_no_utf8_is_refused(tmp_path):
    from vaex.files import make_writable

    with pytest.raises(UserError, match="is not UTF-8"):
        make_writable(tmp_path / "caf\udce9")


def test_an_error_of_many_lines_is_printed_in_one(capsys, monkeypatch):
    def broken(argv):
        raise UserError("first\n  second")

    monkeypatch.setattr(cli, "parse_all", broken)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "vaex: first second\n"


# --- models of the user's own ------------------------------------------------------------------------------------------

OWN = """
{header}
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams

DEFAULTS = {{"steps": 12, "batch_size": 16}}

@options
class Config:
    {field}: {kind} = option({value}, doc="A number.")

@hyperparameters
class HParams(TrainingHParams):
    beta: Scalar = hparam(1.0, doc="Another number.")

def build(config, spec):
    raise NotImplementedError
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A function that writes a user's module and gives its dotted name, a new one each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    number = itertools.count()

    def write(**parts: str) -> str:
        package = tmp_path / f"{tmp_path.name.replace('-', '_')}_{next(number)}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        filled = {"header": "", "field": "width", "kind": "int", "value": "3"} | parts
        (package / "my_module.py").write_text(OWN.format(**filled))
        return f"{package.name}.my_module"

    return write


def test_a_users_module_is_a_model(user_module):
    name = user_module()
    settings = parsed("--width=4", "--beta=1,2", model=name)
    assert (settings.config.width, settings.run.steps, settings.defaults["batch_size"]) == (4, 12, 16)
    assert values(settings, "beta") == ["1", "2"]
    assert identity(settings)["model"] == name


def test_a_literal_of_numbers_is_read_by_its_text(user_module):
    name = user_module(header="from typing import Literal", kind="Literal[1, 2]", value="1")
    assert parsed("--width=2", model=name).config.width == 2


@pytest.mark.parametrize("field", ["steps", "seeds", "binarize", "show", "beta", "help", "no_figures"])
def test_a_field_that_shadows_a_flag_is_refused(capsys, monkeypatch, tmp_path, user_module, field):
    said = refusal(capsys, monkeypatch, tmp_path, [f"--model={user_module(field=field)}"])
    assert repr(field) in said and "give it another name" in said


def test_a_config_that_is_no_dataclass_is_refused(capsys, monkeypatch, tmp_path, user_module):
    name = user_module()
    (tmp_path / name.split(".")[0] / "plain.py").write_text(
        "class Config: pass\nclass HParams: pass\ndef build(config, spec): pass\n"
    )
    assert "write @options" in refusal(capsys, monkeypatch, tmp_path, [f"--model={name.split('.')[0]}.plain"])


def test_what_a_module_fails_to_import_is_its_authors_to_see(user_module):
    name = user_module(header="import surely_not_installed")
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        parsed(model=name)


@pytest.mark.parametrize("model", models.MODELS)
def test_no_field_of_a_model_shadows_a_global_flag(model):
    module = models.module(model)
    shared = {field.name for _, group in GROUPS for field in dataclasses.fields(group)}
    static = {field.name for field in dataclasses.fields(module.Config)}
    traced = {field.name for field in dataclasses.fields(module.HParams)}
    assert not shared & static and not shared & traced and not static & traced
    assert parsed(model=model).model == model


@pytest.mark.parametrize("model", models.MODELS)
def test_every_flag_is_explained(model):
    module = models.module(model)
    for cls in (module.Config, module.HParams, *(group for _, group in GROUPS)):
        lacking = [name for name, field in fields(cls).items() if not field.declaration.doc.endswith(".")]
        assert not lacking, f"{cls} does not explain {lacking} in a sentence"


# --- identity -----------------------------------------------------------------------------------------------------

# each flag with another value than its default; those that may change when a run continues, and those that may not
MAY_CHANGE = {
    "steps": "7", "epochs": "2", "out": "elsewhere", "overwrite": "true", "log_every": "7", "checkpoint_every": "7",
    "devices": "1", "population_strategy": "vmap", "data_dir": "d", "manual_dir": "d", "eval_split": "validation",
    "eval_images": "7", "eval_samples": "7", "show": "sample", "figures": "false", "memory": "host",
    "compile_cache": "off", "profile": "true", "validate_every": "7", "log_to": "wandb",
    "coordinator_address": "host:1234", "num_processes": "2", "process_id": "1", "process_timeout": "9", "change": "beta=7",
    "sampler": "gmm:10", "distributed": "true", "fsdp": "true",
}  # fmt: skip
MAY_NOT = {
    "dataset": "mnist", "data_seed": "7", "batch_size": "7", "seeds": "7", "binarize": "threshold", "dequantize": "uniform",
    "latent_dim": "7", "network": "conv", "hidden": "7", "channels": "7", "activation": "tanh", "likelihood": "laplace",
    "likelihood_scale": "fixed", "mean": "bounded", "optimizer": "sgd", "posterior": "full", "kl": "monte_carlo",
    "num_samples": "7",
    "learning_rate": "7", "weight_decay": "7", "clip_norm": "7", "average_decay": "0.7", "sigma": "7",
    "posterior_scale": "7", "beta": "7", "image_size": "7", "sequence_length": "7", "labels": "7", "labelled_per_batch": "7",
    "flip": "true", "crop": "7", "layout": "vector", "encoder": "my_nets:Encoder", "decoder": "my_nets.py:Decoder",
    "kind": "table", "value_range": "0:2", "first_label": "1", "transparency": "keep", "skip_unreadable": "true",
    "accumulate": "2", "precision": "bfloat16", "freeze": "encoder",
    "standardize": "none", "columns": "a:drop", "label_column": "a", "balance": "true",
}  # fmt: skip


TESTED_ELSEWHERE = {"model", "keep", "patience", "init_from", "init_only", "part"}


def test_every_flag_is_on_one_of_the_lists():
    module = models.module("beta_vae")
    shared = {name for _, group in GROUPS for name in fields(group)} - TESTED_ELSEWHERE
    declared = {*fields(module.Config), *fields(module.HParams)}
    assert {*MAY_CHANGE, *MAY_NOT} == shared | declared
    assert not MAY_CHANGE.keys() & MAY_NOT.keys()


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_a_run_goes_on_with_another(name):
    before, after = parsed(), parsed(f"--{name}={MAY_CHANGE[name]}")
    assert differences(identity(before), identity(after)) == []
    if name != "out":
        assert run_directory(before) == run_directory(after)


@pytest.mark.parametrize("name", MAY_NOT)
def test_another_is_another_run(name):
    before, after = parsed(), parsed(f"--{name}={MAY_NOT[name]}")
    changes = differences(identity(before), identity(after))
    assert [line.split(":")[0] for line in changes] == [name]
    shown = {"flip": True, "skip_unreadable": True, "balance": True}.get(name, MAY_NOT[name])
    assert changes[0].endswith(f"-> {shown}")
    assert run_directory(before) != run_directory(after)


def test_differences_name_exactly_what_changed():
    before = identity(parsed("--beta=1,4", "--seeds=0:2", "--latent_dim=3"))
    after = identity(parsed("--beta=1,8", "--seeds=0:3", "--latent_dim=4", "--data_seed=1"))
    assert differences(before, after) == [
        "data_seed: 0 -> 1", "latent_dim: 3 -> 4", "seeds: 0,1 -> 0,1,2", "beta: 1,4 -> 1,8",
    ]  # fmt: skip
    assert differences(before, before) == []


def test_the_same_number_is_the_same_run():
    first, second = parsed("--learning_rate=1e-3", "--beta=2.0"), parsed("--learning-rate", "0.001", "--beta", "2")
    assert run_directory(first) == run_directory(second) == run_directory(parsed())


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("digits", "digits"), ("some where/My Data.npz", "My Data"), ("x.NPZ", "x"), ("tfds:a/b:1.0", "tfds_a_b_1.0")],
)
def test_the_default_directory_is_named_after_model_and_data(dataset, name):
    directory = run_directory(parsed(f"--dataset={dataset}"))
    assert directory.parent.name == "runs"
    assert directory.name.startswith(f"beta_vae-{name}-") and len(directory.name.rsplit("-", 1)[1]) == 8


def test_a_file_may_move():
    assert identity(parsed("--dataset=a/x.npz")) == identity(parsed("--dataset=b/x.npz"))


@pytest.mark.parametrize(
    "flags",
    [["--hidden=5x6", "--beta=1,ramp:0:4:10", "--seeds=3,1"], ["--clip_norm=1", "--average_decay=0.9"], ["--hidden="]],
)
def test_settings_come_back_from_their_identity(flags):
    settings = parsed(*flags, "--batch_size=32")
    identified = identity(settings)
    restored = restore_settings(identified)
    assert identity(restored) == identified
    assert (restored.config, restored.members, restored.varied) == (settings.config, settings.members, settings.varied)


def test_a_run_with_fields_of_another_version_is_refused_by_their_names():
    identified = identity(parsed())
    newer = identified | {"config": {**identified["config"], "warp_factor": 9}}
    with pytest.raises(UserError, match="lacks warp_factor"):
        restore_settings(newer)
    assert differences(newer, identified) == ["warp_factor: 9 -> not given"]


# --- help ---------------------------------------------------------------------------------------------------------


def test_help_imports_no_jax_and_lists_models_and_data():
    code = """
        import sys
        from vaex.cli import main as cli
        try:
            cli.main(["--help"])
        except SystemExit as stop:
            heavy = sorted({"jax", "flax", "optax", "orbax", "sklearn", "matplotlib", "tensorflow_datasets"} & set(sys.modules))
            print("code", stop.code, "heavy", heavy)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("code 0 heavy []"), done.stdout[-300:] + done.stderr
    for name in (
        "vae",
        "beta_vae",
        "annealed_vae",
        "autoencoder",
        "digits",
        "mnist",
        "PATH.npz",
        "--eval_samples",
        "--seeds",
    ):
        assert name in done.stdout
    assert done.stderr == ""


def test_help_of_a_model_shows_its_flags_with_types_and_defaults(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help", "--model", "annealed_vae", "--nonsense"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for fragment in (
        "--capacity",
        "ramp:0:25:2000",
        "--hidden INTxINT",
        "256x256",
        "{mlp,conv,resnet",
        "VALUE[,VALUE..]",
    ):
        assert fragment in text


@pytest.mark.parametrize(
    ("flags", "thresholds"),
    [([], [None]), (["--skip_norm=100,inf"], [100.0, None]), (["--skip_norm=inf"], [None])],
)
def test_steps_can_be_skipped_where_the_model_says_so(flags, thresholds):
    assert [member.hparams.skip_norm for member in parse(["--model=ladder_vae", *flags]).members] == thresholds
    if flags:
        with pytest.raises(UserError, match="skip_norm is not a flag of vae"):
            parse(["--model=vae", *flags])


@pytest.mark.parametrize("model", models.MODELS)
def test_help_of_every_model_shows_all_its_flags(model, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([f"--model={model}", "--help"])
    module, text = models.module(model), capsys.readouterr().out
    names = {*fields(module.Config), *fields(module.HParams), *stage_fields(module)}
    assert stop.value.code == 0
    assert [name for name in names if f"--{name}" not in text] == []


# --- from Python --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent_dim": 0}, "--latent_dim=0: expected at least 1"),
        ({"latent_dim": "8"}, "--latent_dim=8: expected a whole number"),
        ({"hidden": [8]}, r"--hidden=\[8\]: expected a tuple of whole numbers"),
        ({"hidden": (8, 0)}, "--hidden=8x0: expected numbers of at least 1"),
        ({"network": "con"}, "--network=con: did you mean conv"),
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"kl": None}, "--kl=None"),
    ],
)
def test_options_are_checked_in_their_constructor(wrong, message):
    with pytest.raises(UserError, match=message):
        models.module("beta_vae").Config(**wrong)


def test_settings_from_values_are_those_from_flags():
    flags = ["--beta=1,ramp:0:4:10", "--clip_norm=inf,2", "--seeds=0:2", "--latent_dim=3", "--steps=7"]
    module = models.module("beta_vae")
    grid = {"clip_norm": (None, 2.0), "beta": (1, schedules.ramp(0, 4, 10))}
    run = dataclasses.replace(GROUPS[0][1](), seeds=(0, 1), steps=7)
    built = settings("beta_vae", module, run=run, config=module.Config(latent_dim=3), grid=grid)
    assert identity(built) == identity(parsed(*flags))
    with pytest.raises(UserError, match="no hyperparameter is called 'betta'"):
        settings("beta_vae", module, grid={"betta": (1.0,)})
