"""The options that every run has, whatever its model: of the run, of its data and of its evaluation."""

from __future__ import annotations

import re
from typing import Literal

from vaex.configuration.declare import option, options
from vaex.errors import UserError

MOST_STEPS = 2**31 - 1  # compiled programs count in int32


@options
class RunOptions:
    """The run."""

    model: str = option("", doc="A name from the list above, or a module of your own such as my_package.my_module.")
    steps: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Number of training steps in all; by default the model's own choice. A finished run continues with a "
        "larger number.",
    )
    epochs: float | None = option(
        None, doc="Length of the training in passes over the training data, in place of steps."
    )
    batch_size: int | None = option(
        None, low=1, high=MOST_STEPS, doc="Examples per step; by default the model's own choice."
    )
    seeds: tuple[int, ...] = option(
        (0,),
        low=0,
        high=2**32 - 1,
        doc="Seeds of initialisation and noise; several make a population, as 0:8 (0 to 7) or 1,5.",
    )
    out: str | None = option(
        None, doc="The run directory; by default runs/MODEL-DATASET-HASH. The same command continues a stopped run."
    )
    init_from: str | None = option(
        None,
        doc="Run directory from whose trained parameters this run begins, on data and with hyperparameters of its own; "
        "RUN:MEMBER names a member of a population, else members begin from those of equal index where both runs have as many, or "
        "all from member 0.",
    )
    init_only: tuple[str, ...] = option(
        (),
        doc="Parts that begin so, such as encoder,decoder; the others are initialised. By default all do, and names and shapes "
        "must agree.",
    )
    freeze: tuple[str, ...] = option(
        (),
        doc="Parts that keep their values, such as encoder: those of --init_from, or the initial ones.",
    )
    change: str | None = option(
        None,
        doc="Hyperparameters that change from where a stopped or finished run goes on, such as learning_rate=1e-4,beta=2, beside "
        "the flags with which it began; config.json records the step.",
    )
    accumulate: int = option(
        1,
        low=1,
        high=MOST_STEPS,
        doc="Number of parts of a batch whose gradients are computed one after the other and averaged: the update is that of the "
        "entire batch, in less memory.",
    )
    overwrite: bool = option(False, doc="Start again where the run directory already holds a run.")
    log_every: int = option(100, low=1, high=MOST_STEPS, doc="Steps per row of metrics.jsonl.")
    checkpoint_every: int | None = option(
        None, low=1, high=MOST_STEPS, doc="Steps between checkpoints; by default about one a minute."
    )
    log_to: str | None = option(
        None,
        doc="Loggers that receive the rows of metrics too: tensorboard (into the run directory), wandb, or both joined by a comma.",
    )
    validate_every: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Steps between evaluations on the validation split, whose rows join metrics.jsonl; by default there are none.",
    )
    keep: str | None = option(
        None,
        doc="best:METRIC, such as best:elbo, ends with each member as it was where this metric of the validation split was "
        "best; a number says how many of the last checkpoints stay (by default 2); best:elbo+5 says both.",
    )
    patience: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Stop early after so many validations in which no member has become better (--keep).",
    )
    devices: int | None = option(None, low=1, high=MOST_STEPS, doc="Number of devices to use; by default all.")
    fsdp: bool = option(
        False,
        doc="Divide parameters, optimizer state and averages over the devices that share a batch (fully sharded data parallelism), "
        "for models that one device can't hold; a step then exchanges more.",
    )
    part: str | None = option(
        None,
        doc="Which part of a sweep to run, such as 3/16: the third of sixteen shares of all combinations of options and "
        "hyperparameters, each with all its seeds; other jobs run the others.",
    )
    distributed: bool = option(
        False,
        doc="Train one run with the processes that a cluster's manager has started (Slurm, Open MPI, Kubernetes, a TPU pod), which "
        "says how many there are, and where the first is.",
    )
    coordinator_address: str | None = option(
        None,
        doc="HOST:PORT of the first of several processes that train one run; with --distributed where the manager does not say.",
    )
    num_processes: int | None = option(None, low=1, high=MOST_STEPS, doc="Number of processes that train the run.")
    process_id: int | None = option(
        None,
        low=0,
        high=MOST_STEPS,
        doc="Number of this process, from 0; each reads its share of a batch, and process 0 writes the run.",
    )
    process_timeout: int = option(
        300,
        low=1,
        high=MOST_STEPS,
        unit="s",
        doc="How long to wait for the other processes; one that is missing is then named.",
    )
    population_strategy: Literal["auto", "vmap", "members"] = option(
        "auto", doc="Train members at once (vmap) or one after the other (members); auto chooses by platform and size."
    )
    compile_cache: str = option(
        "auto",
        doc="Where compiled programs are kept for the next start: auto (the user's cache folder, or $VAEX_CACHE), off, or a "
        "folder.",
    )
    profile: bool = option(
        False, doc="Trace some steps into the run directory, for xprof or perfetto, and print the time of each op."
    )

    @property
    def is_shared(self) -> bool:
        """True where several processes train the run together."""
        return self.distributed or self.coordinator_address is not None

    @property
    def best_metric(self) -> str | None:
        """The metric of the validation split by which the best states are kept; None where the last ones are."""
        best = str(self.keep or "").partition("+")[0]
        return best.removeprefix("best:") if best.startswith("best:") else None

    @property
    def checkpoints_kept(self) -> int | None:
        """How many of the last checkpoints stay; None for the default."""
        last = str(self.keep or "").rpartition("+")[2]
        return int(last) if last.isdigit() else None

    def check(self) -> None:
        """Raise UserError for a choice of the best that has nothing to choose from."""
        if self.keep is not None and re.fullmatch(r"best:[^+]+|\d+|best:[^+]+\+\d+", str(self.keep)) is None:
            raise UserError(f"--keep={self.keep}: expected best:METRIC, such as best:elbo, a number, or best:elbo+5")
        if self.checkpoints_kept is not None and not 2 <= self.checkpoints_kept <= MOST_STEPS:
            raise UserError(
                f"--keep={self.keep}: expected at least 2 checkpoints, so that there is one before a damaged one"
            )
        if self.best_metric is not None and self.validate_every is None:
            raise UserError(f"--keep={self.keep} needs --validate_every=STEPS, which says when the metric is evaluated")
        if self.patience is not None and self.best_metric is None:
            raise UserError(f"--patience={self.patience} needs --keep=best:METRIC, which says what is to become better")


@options
class DataOptions:
    """The data."""

    dataset: str | None = option(
        None,
        doc="A name from the list above, or your own PATH.npz, PATH.npy, PATH.csv, PATH.parquet or folder of images; by default "
        "the model's choice.",
    )
    data_seed: int = option(0, low=0, high=2**64 - 1, doc="Seed of the order of examples, which all members share.")
    data_dir: str | None = option(None, doc="Directory of data sets that are ready to read.")
    manual_dir: str | None = option(None, doc="Directory of original files that you downloaded yourself.")
    binarize: Literal["auto", "none", "dynamic", "threshold"] = option(
        "auto",
        doc="Turn grey values into 0 and 1; dynamic draws anew at each step, as auto does for a bernoulli likelihood, and for "
        "images that are nearly binary where no likelihood is given.",
    )
    dequantize: Literal["none", "uniform"] = option(
        "none",
        doc="Add uniform noise within a level, so that densities bound the likelihood of 8-bit data.",
    )
    standardize: Literal["auto", "none"] = option(
        "auto",
        doc="Networks and likelihoods work in standard deviations of each column of real vectors (auto), or in the data's numbers "
        "(none); bounds and samples are of the data as given either way.",
    )
    flip: bool = option(False, doc="Flip training images from left to right half of the time.")
    crop: int = option(
        0, low=0, high=MOST_STEPS, unit="pixels", doc="Largest random shift of training images; 0 is off."
    )
    image_size: tuple[int, ...] | None = option(
        None,
        low=1,
        doc="Size to which images of a folder, of celeb_a, dsprites, shapes3d or tfds:NAME are cut and resized, as "
        "64 or 64x48 (height x width); size at which sprites are drawn.",
    )
    sequence_length: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Number of frames in a sequence of bouncing_sprites or rotating_sprites; by default 16.",
    )
    layout: Literal["auto", "hwc", "chw", "vector", "tc", "ct", "dhwc", "cdhw", "thwc"] = option(
        "auto",
        doc="Axes of your own arrays: [n, h, w, c], [n, c, h, w], each example as one vector, series, volumes, "
        "or sequences of images; auto reads hwc, and refuses axes that look like chw.",
    )
    kind: Literal["auto", "image", "table", "series", "volume", "sequence"] = option(
        "auto",
        doc="What the examples of your own arrays are, in place of --layout: series are tc, volumes dhwc, and so on.",
    )
    value_range: str = option(
        "auto",
        doc="Numbers of your own arrays that mean 0 and 1, as -1000:1000 or -1:1; values beyond are clipped. real reads vectors "
        "and series as measurements, though they lie in [0, 1].",
    )
    transparency: str = option(
        "auto",
        doc="Transparent pixels in a folder of images: auto refuses them, keep makes opacity a fourth channel, and a colour such "
        "as white or #ff8000 is put behind them.",
    )
    skip_unreadable: bool = option(
        False, doc="Leave out images of a folder that cannot be read; they are named, and recorded in config.json."
    )
    first_label: int = option(0, low=0, high=MOST_STEPS, doc="Number of the first class in your own labels.")
    columns: str | None = option(
        None,
        doc="Types of a table's columns in place of those that are inferred, as age:student_t,visits:poisson,id:drop: gaussian, "
        "student_t, log_normal, poisson, negative_binomial, zero_inflated_poisson, zero_inflated_negative_binomial, bernoulli, "
        "categorical, ordinal, or drop; an ordinal of texts has its order, size:ordinal(small<large).",
    )
    label_column: str | None = option(
        None,
        doc="Column of a table that becomes the label, rather than a part of x; several, or real numbers, become conditions.",
    )
    balance: bool = option(
        False, doc="Draw batches in which every class is equally frequent; an epoch still counts all examples."
    )
    labels: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Number of training examples that keep their label, equally many of each class; by default all.",
    )
    labelled_per_batch: int | None = option(
        None,
        low=1,
        high=MOST_STEPS,
        doc="Number of labelled examples in each batch where --labels is given; by default half.",
    )
    memory: Literal["auto", "device", "host"] = option(
        "auto",
        doc="Where training data is kept; host streams it to the device ahead of use, with the same numbers; auto "
        "does so where it would take more than 40% of the memory that is free.",
    )


@options
class EvaluationOptions:
    """The evaluation at the end of the run."""

    eval_split: Literal["test", "validation"] = option(
        "test", doc="Examples to evaluate on; choose settings on validation, read test once."
    )
    eval_images: int = option(
        1000,
        low=1,
        high=MOST_STEPS,
        doc="Number of examples, chosen at random, whose importance-weighted log-likelihood is estimated.",
    )
    eval_samples: int = option(
        100, low=1, high=MOST_STEPS, doc="Importance samples per example of the log-likelihood, K."
    )
    show: Literal["mean", "sample"] = option("mean", doc="Draw the likelihood's mean, or a sample from it.")
    sampler: str | None = option(
        None,
        doc="Sampler fitted to the codes of the training examples, and kept: gaussian, full_gaussian, gmm:N, flow:N, "
        "second_stage:N, knn:N or hypersphere; figures of samples are drawn from it in place of the prior.",
    )
    figures: bool = option(True, doc="Draw figures.")


GROUPS: tuple[tuple[str, type], ...] = (("run", RunOptions), ("data", DataOptions), ("evaluation", EvaluationOptions))
