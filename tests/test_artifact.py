"""Models in one file: what comes back, and how large it is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from flax.core import freeze

import smh_jax
from smh_jax import Manifest, methods, models
from smh_jax.methods import rounding as quantization
from smh_jax.methods.base import count
from smh_jax.shipping import artifact
from tests import artifacts
from tests.conftest import ROOT
from tests.small import TwoLayers

SLACK = 64 * 1024


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    ("kind", "compress"), [*((kind, False) for kind in artifacts.METHODS), ("smh", True)]
)
def test_what_was_saved_comes_back_bit_for_bit(kind, compress, tmp_path):
    saved = artifacts.make(kind)
    smh_jax.save(tmp_path / "model.smh", saved, compress=compress)
    loaded = smh_jax.load(tmp_path / "model.smh")
    assert_equal_trees(loaded.variables, jax.tree.map(jnp.asarray, saved.stored))
    assert_equal_trees(loaded.model_state, saved.model_state)
    assert loaded.method == saved.method
    for field in ("model", "preprocessing", "class_names", "precision", "accuracy", "provenance"):
        assert getattr(loaded, field) == getattr(saved, field)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.smh"]


def test_a_loaded_model_computes_what_the_saved_one_did(tmp_path):
    saved = artifacts.make()
    smh_jax.save(tmp_path / "model.smh", saved)
    loaded = smh_jax.load(tmp_path / "model.smh")
    images = artifacts.images(3)
    params = jax.jit(saved.method.materialize)(saved.stored)
    apply = jax.jit(functools.partial(saved.module.apply, train=False))
    wanted = apply({"params": params, **saved.model_state}, images)
    np.testing.assert_allclose(loaded.logits(images), wanted, rtol=1e-5, atol=1e-5)
    assert_equal_trees(loaded.params, params)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_allclose(
        loaded.predict(pixels),
        jax.nn.softmax(loaded.logits((pixels / 255 - 0.3) / 0.4)),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(("kind", "precision", "largest"), [
    ("smh", "bfloat16", 0.004), ("smh", "int8", 0.01), ("smh", "int4", 0.15),
    ("multi_hash", "int8", 0.01), ("combined", "int4", 0.15),
])  # fmt: skip
def test_pools_are_stored_at_their_precision_and_all_else_exactly(
    kind, precision, largest, tmp_path
):
    full = artifacts.make(kind)
    saved = smh_jax.save(tmp_path / "model.smh", full, precision=precision)
    loaded = smh_jax.load(tmp_path / "model.smh")
    assert loaded.precision == saved.precision == precision
    assert_equal_trees(loaded.stored["pools"], saved.stored["pools"])
    for restored, pool in zip(
        jax.tree.leaves(loaded.variables["pools"]), jax.tree.leaves(full.stored["pools"]),
        strict=True,
    ):  # fmt: skip
        assert 1e-5 < np.linalg.norm(restored - pool) / np.linalg.norm(pool) < largest
    for group in ("scales", "stored"):
        exact = jax.tree.map(jnp.asarray, full.stored[group])
        assert_equal_trees(loaded.variables[group], exact)
    assert_equal_trees(loaded.model_state, full.model_state)


def test_precisions_that_cannot_be():
    full = artifacts.make()
    with pytest.raises(ValueError, match="precision='int5' must be one of float32, bfloat16"):
        full.at("int5")
    with pytest.raises(ValueError, match="stored as int8 already"):
        full.at("int8").at("float32")
    assert full.at("float32") is full


@functools.cache
def abstract_model(model):
    """The description of a model, its manifest and the shapes of its batch statistics."""
    side = models.default_resolution(model)
    spec = artifact.ModelSpec(model, 1000)
    module = spec.create()
    random = np.random.default_rng(0)
    manifest = Manifest.from_model(module, (1, side, side, 3), measure=False)
    # Statistics with as many digits as measured ones.
    tensors = tuple(
        dataclasses.replace(
            t,
            initial=dataclasses.replace(
                t.initial, mean=0.0, stddev=random.uniform(), distribution="normal"
            ),
        )
        for t in manifest.tensors
    )
    manifest = dataclasses.replace(manifest, tensors=tensors)
    state = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False)
    )
    return side, spec, manifest, state["batch_stats"]


def artifact_of_zeros(model, target_size, name="smh"):
    """An artifact of zeros, which are stored like any other numbers."""
    side, spec, manifest, batch_stats = abstract_model(model)
    method = methods.create(name, manifest, target_size=target_size)
    zeros = lambda tree: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)  # noqa: E731
    names = np.random.default_rng(0).integers(0, 10**8, 1000)
    return artifact.Artifact(
        method=method,
        stored=zeros(method.abstract_variables),
        model_state={"batch_stats": zeros(batch_stats)},
        model=spec,
        preprocessing=artifact.Preprocessing((side, side, 3), (0.5,) * 3, (0.5,) * 3),
        class_names=tuple(f"n{i:08}" for i in names),
        provenance={"command": "c" * 1000},
    )


@pytest.mark.parametrize(("model", "method", "target_size"), [
    ("cifar_resnet8", "smh", 7_100),
    pytest.param("efficientnet_b4", "smh", 1_000_000, marks=pytest.mark.slow),
    pytest.param("efficientnet_b4", "tucker", 1_000_000, marks=pytest.mark.slow),
])  # fmt: skip
def test_files_are_as_small_as_their_numbers(model, method, target_size):
    full = artifact_of_zeros(model, target_size, method)
    pools = count(full.stored["pools"])
    rest = count(full.stored) - pools + count(full.model_state)
    # All numbers are in it.
    assert 4 * (pools + rest) < len(artifact.encode(full)) <= 4 * (pools + rest) + SLACK
    if method == "smh":
        assert len(artifact.encode(full.at("bfloat16"))) <= 2 * pools + 4 * rest + SLACK
        assert len(artifact.encode(full.at("int8"))) <= 1.05 * pools + 4 * rest + SLACK
        assert len(artifact.encode(full.at("int4"))) <= 0.55 * pools + 4 * rest + SLACK


def test_the_same_model_gives_the_same_bytes():
    assert artifact.encode(artifacts.make()) == artifact.encode(artifacts.make())
    assert artifact.encode(artifacts.make()) != artifact.encode(artifacts.make().at("bfloat16"))


def test_the_file_is_in_the_safetensors_format(tmp_path):
    saved = artifacts.make()
    smh_jax.save(tmp_path / "model.smh", saved)
    with safetensors.safe_open(tmp_path / "model.smh", "numpy") as file:
        assert set(file.metadata()) == {"smh_jax"}
        pools = file.get_tensor("pools/float32")
    u, v = (saved.stored["pools"][key] for key in "uv")
    np.testing.assert_array_equal(pools, np.concatenate([u.ravel(), v.ravel()]))


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = tmp_path / "model.smh"
    path.write_text("precious")
    with pytest.raises(ValueError, match="exists; choose another name"):
        smh_jax.save(path, artifacts.make())
    assert path.read_text() == "precious"
    smh_jax.save(path, artifacts.make(), overwrite=True)
    assert smh_jax.load(path).class_names
    with pytest.raises(ValueError, match="not a folder"):
        smh_jax.save(tmp_path / "no" / "model.smh", artifacts.make())


def test_a_module_of_ones_own_is_applied_to_the_params(tmp_path):
    module = TwoLayers()
    shape = (1, 12, 12, 1)
    init = jax.jit(lambda key: module.init(key, jnp.zeros(shape), train=False))
    state = dict(init(jax.random.key(0)))
    params = state.pop("params")
    manifest = Manifest.from_model(module, shape)
    method = methods.create("smh", manifest, target_size=300)
    variables = method.init(jax.random.key(1), params)
    smh_jax.save(
        tmp_path / "model.smh",
        smh_jax.Artifact(method=method, stored=variables, model_state=freeze(state)),
    )
    loaded = smh_jax.load(tmp_path / "model.smh")
    assert_equal_trees(loaded.params, jax.jit(method.materialize)(variables))
    assert_equal_trees(loaded.model_state, state)
    images = artifacts.images(2, shape[1:])
    apply = jax.jit(functools.partial(module.apply, train=False))
    assert apply({"params": loaded.params, **loaded.model_state}, images).shape == (2, 10)
    with pytest.raises(ValueError, match="does not name a model"):
        loaded.logits(images)
    with pytest.raises(ValueError, match="how images are preprocessed"):
        loaded.predict(images)


@pytest.mark.parametrize("precision", quantization.PRECISIONS)
def test_numpy_alone_rebuilds_every_layer(precision, tmp_path):
    loaded = smh_jax.save(tmp_path / "model.smh", artifacts.make(), precision=precision)
    hashed = loaded.method.manifest.hashed
    example = ROOT / "docs" / "read_artifact.py"
    code = f"__file__ = {str(example)!r}\n{example.read_text()}"
    code += "\nout = np.concatenate([weights(sys.argv[2], n).ravel() for n in sys.argv[3:]])"
    forbidden = ("jax", "smh_jax", "flax", "safetensors", "ml_dtypes")
    if precision in ("float32", "bfloat16", "int8", "int4"):
        forbidden += ("constriction",)
    names = [tensor.name for tensor in hashed]
    path = str(tmp_path / "model.smh")
    rebuilt = artifacts.run_alone(code, tmp_path, forbidden, path, *names)
    leaves = loaded.method.manifest.leaves(loaded.params)
    wanted = np.concatenate([np.ravel(leaves[name]) for name in names])
    assert len(names) > 5
    np.testing.assert_allclose(rebuilt, wanted, rtol=1e-4, atol=1e-6)
