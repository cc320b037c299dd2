"""Batches of the libraries that people load data with, where they are installed, beside a function of the step."""

import jax
import numpy as np
import pytest

import vaex

X = np.random.default_rng(0).integers(0, 17, (64, 8, 8), np.uint8)
Y = np.arange(64) % 3
QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 2, "devices": 1, "progress": False}


def torch_loader():
    """A DataLoader: batches [x, y] of tensors."""
    torch = pytest.importorskip("torch")
    examples = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(examples, batch_size=16)


def grain_dataset():
    """A MapDataset, which can be iterated over again."""
    grain = pytest.importorskip("grain")
    examples = [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]
    return grain.MapDataset.source(examples).batch(16)


def grain_iterator():
    """Its iterator, which passes once."""
    return iter(grain_dataset().repeat().to_iter_dataset())


def hugging_face():
    """A generator of batches, each a mapping of NumPy arrays."""
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"x": X, "y": Y}).with_format("numpy").iter(batch_size=16)


def tensorflow_data():
    """A tf.data pipeline, as NumPy's arrays."""
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(16).as_numpy_iterator()


def grain_rows():
    """A function of the step and of rows, which reads these alone of a shuffled MapDataset."""
    grain = pytest.importorskip("grain")
    examples = [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]
    dataset = grain.MapDataset.source(examples).repeat()

    def batch(step, rows):
        chosen = [dataset[16 * step + row] for row in range(16)[rows]]
        return {name: np.stack([example[name] for example in chosen]) for name in ("x", "y")}

    return batch


def batch_of(step):
    rows = slice(16 * (step % 4), 16 * (step % 4) + 16)
    return X[rows], Y[rows]


def trained(batches, steps):
    dataset = vaex.Dataset.from_batches(batches, y="y", validation=(X, Y), test=(X, Y))
    return vaex.train("conditional_vae", dataset, steps=steps, **QUICK)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the libraries, of which Hugging Face's warns where it cannot pickle
@pytest.mark.parametrize(
    "make", [torch_loader, grain_dataset, grain_iterator, grain_rows, hugging_face, tensorflow_data]
)
def test_batches_of_a_library_train_as_those_of_a_function_of_the_step(make):
    by_library, by_step = trained(make(), 4), trained(batch_of, 4)
    assert by_library.spec.num_classes == 3 and by_library.spec.shape == (8, 8, 1)
    jax.tree.map(np.testing.assert_array_equal, by_library.state.variables, by_step.state.variables)


def test_of_shards_in_array_record_each_process_reads_its_share_of_a_batch(tmp_path):
    """Three shards; a function of the step and of rows is asked for a process's rows alone."""
    module = pytest.importorskip("array_record.python.array_record_module")
    source = pytest.importorskip("array_record.python.array_record_data_source")
    shards = [tmp_path / f"train-{index}.array_record" for index in range(3)]
    for shard, images in zip(shards, np.array_split(X, 3), strict=True):
        writer = module.ArrayRecordWriter(str(shard), "group_size:1")
        for image in images:
            writer.write(image.tobytes())
        writer.close()
    read = []

    def batch(step, rows):
        indices = [(16 * step + row) % len(X) for row in range(16)[rows]]
        read.extend(indices)
        with source.ArrayRecordDataSource([str(shard) for shard in shards]) as records:
            return np.stack([np.frombuffer(record, np.uint8) for record in records.__getitems__(indices)]).reshape(
                -1, 8, 8
            )

    feed = vaex.Dataset.from_batches(batch, validation=X, test=X).source.feed(16)
    whole = feed.plan(0, 6)["x"]
    np.testing.assert_array_equal(whole[..., 0], np.concatenate([X, X[:32]]).reshape(6, 16, 8, 8))
    read.clear()
    np.testing.assert_array_equal(feed.share(1, 2, slice(4, 8))["x"], whole[1:3, 4:8])
    assert read == [*range(20, 24), *range(36, 40)]
