"""Adapters: what a method makes is added to the frozen weights of a trained run."""

import dataclasses

import jax
import numpy as np
import onnxruntime
import pytest

import smh_jax
from smh_jax import config as configs
from smh_jax import models
from smh_jax.config import MethodConfig
from smh_jax.shipping import conversion, from_run, on_the_fly
from smh_jax.shipping import onnx as onnx_export
from smh_jax.training import trained
from smh_jax.training.adapted import COLLECTION
from smh_jax.training.loop import train_and_evaluate
from tests.small import digits_config
from tests.test_transformers import SHIPPED_OPTIONS

DENSE = {"method__name": "dense", "method__target_size": None, "method__options": {}}


def vit_config(data_dir, steps=6, **changes):
    return digits_config(
        data_dir,
        model__name="vit_ti16",
        model__options=models.default_options("vit_ti16") | SHIPPED_OPTIONS,
        **{
            "optimizer__name": "adamw",
            "optimizer__learning_rate": 0.04,
            # The scales of differences start at 0, and have to leave it.
            "optimizer__scale_rate": 1.0,
            "optimizer__schedule": "constant",
            "optimizer__weight_decay": 0.0,
            "epochs": steps / 22.453125,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def base(digits_dir, tmp_path_factory):
    """A dense run, and what it reached."""
    workdir = tmp_path_factory.mktemp("base")
    return workdir, train_and_evaluate(vit_config(digits_dir, **DENSE), workdir)


@pytest.fixture(scope="module")
def adapter(base, digits_dir, tmp_path_factory):
    """An adapter of SMH on it."""
    workdir = tmp_path_factory.mktemp("adapter")
    config = vit_config(digits_dir, steps=12, frozen_from=str(base[0]), method__target_size=1_000)
    return config, workdir, train_and_evaluate(config, workdir)


@pytest.mark.slow
def test_an_adapter_starts_from_what_is_frozen(base, digits_dir, tmp_path):
    config = vit_config(
        digits_dir, 1, frozen_from=str(base[0]), method__target_size=1_000,
        optimizer__learning_rate=0.0,
    )  # fmt: skip
    result = train_and_evaluate(config, tmp_path)
    assert result["test_loss"] == pytest.approx(base[1]["test_loss"], rel=1e-6)
    assert result["num_variables"] <= 1_000


@pytest.mark.slow
def test_an_adapter_learns_and_leaves_the_frozen_weights(base, adapter):
    _, workdir, result = adapter
    assert result["test_loss"] < base[1]["test_loss"] - 0.01
    frozen, learned = trained.read(base[0]), trained.read(workdir)
    jax.tree.map(np.testing.assert_array_equal, frozen.params, learned.model_state[COLLECTION])
    differences = np.concatenate([np.ravel(x) for x in jax.tree.leaves(learned.params)])
    assert np.count_nonzero(differences) > 0.9 * differences.size
    # All layers share the pools, and each has a scale of its own.
    assert set(learned.variables["pools"]) == {"u", "v"}
    assert len(learned.variables["scales"]) == len(frozen.run.method.manifest.tensors)


@pytest.mark.slow
def test_an_adapter_resumes_bit_for_bit(adapter, tmp_path):
    config, workdir, result = adapter
    train_and_evaluate(dataclasses.replace(config, epochs=config.epochs / 2), tmp_path)
    assert train_and_evaluate(config, tmp_path)["test_loss"] == result["test_loss"]
    one, other = trained.read(tmp_path), trained.read(workdir)
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.slow
def test_low_rank_of_each_layer_is_the_same_with_another_method(base, digits_dir, tmp_path):
    config = vit_config(
        digits_dir, 12, frozen_from=str(base[0]), method__name="low_rank",
        method__target_size=1_000, method__options={},
    )  # fmt: skip
    result = train_and_evaluate(config, tmp_path)
    assert result["test_loss"] < base[1]["test_loss"]
    assert result["num_variables"] <= 1_000


@pytest.mark.slow
def test_a_file_of_an_adapter_and_one_of_its_merged_weights(adapter, tmp_path):
    _, workdir, _ = adapter
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    artifact = from_run.read_artifact(workdir)
    smh_jax.save(tmp_path / "adapter.smh", artifact)
    loaded = smh_jax.load(tmp_path / "adapter.smh")
    expected = np.asarray(artifact.logits(images))
    np.testing.assert_array_equal(loaded.logits(images), expected)
    generated = jax.jit(on_the_fly.predict(loaded.module, loaded.method))(
        loaded.variables, dict(loaded.model_state), images
    )
    np.testing.assert_allclose(generated, expected, rtol=1e-4, atol=1e-5)
    session = onnxruntime.InferenceSession(onnx_export.export(loaded))
    (logits,) = session.run(["logits"], {"images": images})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)

    conversion.convert(conversion.of_run(workdir, MethodConfig("dense")), tmp_path / "merged")
    merged = trained.read(tmp_path / "merged")
    assert merged.config.frozen_from is None
    assert merged.run.method.name == "dense"
    assert COLLECTION not in merged.model_state
    plain = from_run.read_artifact(tmp_path / "merged")
    np.testing.assert_allclose(plain.logits(images), expected, rtol=1e-5, atol=1e-5)
    # The merged weights are not those that were frozen.
    frozen = trained.read(workdir).model_state[COLLECTION]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), merged.params, frozen)
    assert max(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.slow
def test_mistakes_are_told(base, adapter, digits_dir, tmp_path):
    frozen = str(base[0])
    other = digits_config(digits_dir, frozen_from=frozen)
    with pytest.raises(ValueError, match=r"frozen_from=.* must be a run of the same model"):
        train_and_evaluate(other, tmp_path / "other")
    with pytest.raises(ValueError, match="nowhere holds no run"):
        train_and_evaluate(vit_config(digits_dir, frozen_from="/nowhere"), tmp_path / "nowhere")
    with pytest.raises(ValueError, match="must be None with frozen_from"):
        vit_config(digits_dir, frozen_from=frozen, init_from=frozen)
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "nowhere").exists()
    on_top = dataclasses.replace(adapter[0], frozen_from=None, init_from=str(adapter[1]))
    with pytest.raises(ValueError, match="is a run with frozen weights"):
        train_and_evaluate(on_top, tmp_path / "on_top")
    assert configs.to_json_dict(on_top)["frozen_from"] is None
