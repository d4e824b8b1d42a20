"""Flax's own MNIST example, read from Flax's source releases and run as it is published.

The one change is that its model is passed through `smh_jax.compress`. Its images are scikit-learn's
handwritten digits, as MNIST needs a download.
"""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tarfile
import types

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from flax import nnx
from sklearn import datasets

import smh_jax

pytestmark = pytest.mark.slow

TARGET_SIZE = 80_000  # of 825,034 parameters


def read_example(folder: pathlib.Path, version: str, monkeypatch) -> types.ModuleType:
    """The module examples/mnist/train.py of a release of Flax."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    found = subprocess.run(
        [*command, "--no-binary=:all:", f"flax=={version}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if found.returncode:
        pytest.skip(f"no package index with the source of flax {version}: {found.stderr[-200:]}")
    path = folder / "train.py"
    with tarfile.open(folder / f"flax-{version}.tar.gz") as archive:
        source = archive.extractfile(f"flax-{version}/examples/mnist/train.py")
        path.write_bytes(source.read())
    spec = importlib.util.spec_from_file_location(f"flax_example_{version}", path)
    module = importlib.util.module_from_spec(spec)
    # TensorFlow looks its functions up by the module's name.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def load_digits(split: str) -> dict[str, np.ndarray]:
    """Digits in the form of MNIST: 8 x 8 pixels, each of them 3 x 3, within a frame of 2."""
    digits = datasets.load_digits()
    images = np.kron(digits.images, np.ones((1, 3, 3))) * 255 / 16
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.uint8)
    part = slice(1_280) if split == "train" else slice(1_280, None)
    return {"image": images[part], "label": digits.target[part]}


class Builder:
    """What the example calls of the builder of a dataset."""

    def download_and_prepare(self):
        """Nothing to download."""

    def as_dataset(self, split, batch_size):
        assert batch_size == -1
        return jax.tree.map(tf.constant, load_digits(split))


@pytest.fixture(autouse=True)
def digits_for_mnist(monkeypatch):
    def load(name, split):
        assert name == "mnist"
        return tf.data.Dataset.from_tensor_slices(load_digits(split))

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "builder", lambda name: Builder())


def run(module, tmp_path, caplog):
    """What the example reports as test accuracy in percent after two epochs, and returns."""
    config = ml_collections.ConfigDict(
        {"learning_rate": 0.03, "momentum": 0.9, "batch_size": 32, "num_epochs": 2}
    )
    with caplog.at_level("INFO", logger="absl"):
        state = module.train_and_evaluate(config, str(tmp_path))
    return float(re.findall(r"test_accuracy: ([\d.]+)", caplog.text)[-1]), state


def test_linen(tmp_path, monkeypatch, caplog):
    module = read_example(tmp_path, "0.10.4", monkeypatch)
    cnn = module.CNN()
    compressed = smh_jax.compress(cnn, jnp.ones([1, 28, 28, 1]), target_size=TARGET_SIZE)
    monkeypatch.setattr(module, "CNN", lambda: compressed)
    accuracy, state = run(module, tmp_path, caplog)
    assert accuracy > 50  # chance is 10
    sizes = [leaf.size for leaf in jax.tree.leaves(state.params)]
    assert 0.98 * TARGET_SIZE < sum(sizes) == compressed.num_variables <= TARGET_SIZE
    # Momentum shrinks with it.
    assert sum(x.size for x in jax.tree.leaves(state.opt_state)) == sum(sizes)
    images = jnp.float32(load_digits("test")["image"][:8]) / 255
    np.testing.assert_allclose(
        cnn.apply({"params": compressed.dense_params(state.params)}, images),
        state.apply_fn({"params": state.params}, images),
        rtol=1e-4,
        atol=1e-4,
    )


def test_nnx(tmp_path, monkeypatch, caplog):
    module = read_example(tmp_path, flax.__version__, monkeypatch)
    models = []

    def compressed(rngs):
        models.append(smh_jax.compress(cnn(rngs=rngs), target_size=TARGET_SIZE))
        return models[-1]

    cnn = module.CNN
    monkeypatch.setattr(module, "CNN", compressed)
    accuracy, _ = run(module, tmp_path, caplog)
    assert accuracy > 50  # chance is 10
    (model,) = models
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert 0.98 * TARGET_SIZE < sum(sizes) == model.num_variables <= TARGET_SIZE
    assert repr(model).startswith("Compressed(CNN, smh: ")
    # The statistics of batch norm have moved, and are the dense model's, too.
    images = jnp.float32(load_digits("test")["image"][:8]) / 255
    dense = model.dense()
    assert isinstance(dense, cnn)
    assert not np.allclose(dense.batch_norm2.mean.get_value(), 0)
    np.testing.assert_allclose(dense(images, None), model(images, None), 1e-4, 1e-4)
    # The example's last lines serve the model by TensorFlow.
    served = tf.saved_model.load(str(tmp_path / "mnist_export"))
    for image in images[:2]:
        (logits,) = served.signatures["mnist_server"](tf.constant(image[None])).values()
        np.testing.assert_allclose(logits, dense(image[None], None), 1e-4, 1e-4)
