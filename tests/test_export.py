"""The computation for other programs: parity in processes that cannot import the project."""

import json

import jax
import numpy as np
import onnx
import pytest

from smh_jax.shipping import artifact
from tests import artifacts

RUN_STABLEHLO = """
import jax.export
program = jax.export.deserialize(bytearray(open(sys.argv[2], 'rb').read()))
assert program.platforms == ('cpu', 'cuda', 'tpu'), program.platforms
images = np.load(sys.argv[3])
whole = np.asarray(program.call(images))
one = np.asarray(program.call(images[:1]))
out = np.concatenate([whole, one])
"""
RUN_ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[2])
images = np.load(sys.argv[3])
whole, = session.run(['logits'], {'images': images})
one, = session.run(['logits'], {'images': images[:1]})
out = np.concatenate([whole, one])
"""
NO_PROJECT = ("smh_jax", "flax", "qwix")


def logits_alone(program: bytes, code, forbidden, made, folder):
    """What a program computes of three images and of the first alone, and what it should."""
    images = artifacts.images(3, made.preprocessing.image_shape)
    (folder / "program").write_bytes(program)
    np.save(folder / "images.npy", images)
    found = artifacts.run_alone(
        code, folder, forbidden, str(folder / "program"), str(folder / "images.npy")
    )
    params = jax.jit(made.method.materialize)(made.variables)
    apply = jax.jit(lambda p, x: made.module.apply({"params": p, **made.model_state}, x, False))
    wanted = np.asarray(apply(params, images))
    # Images differ in their logits, and so do classes: a constant is not mistaken for a model.
    assert np.ptp(wanted, axis=0).max() > 0.05
    return found, np.concatenate([wanted, wanted[:1]])


@pytest.mark.parametrize(("kind", "precision", "form"), [
    ("smh", "float32", "on_the_fly"), ("smh", "float32", "unpacked"),
    ("kronecker", "int4", "on_the_fly"), ("multi_hash", "float32", "on_the_fly"),
])  # fmt: skip
def test_stablehlo_computes_the_models_logits_with_jax_alone(kind, precision, form, tmp_path):
    made = artifacts.make(kind).at(precision)
    program = artifact.to_stablehlo(made, form)
    found, wanted = logits_alone(program, RUN_STABLEHLO, NO_PROJECT, made, tmp_path)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def onnx_parity(made, form, folder):
    program = artifact.to_onnx(made, form)
    found, wanted = logits_alone(program, RUN_ONNX, (*NO_PROJECT, "jax", "onnx"), made, folder)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return onnx.load_from_string(program)


@pytest.mark.parametrize(("kind", "precision", "form"), [
    ("smh", "float32", "on_the_fly"), ("smh", "float32", "unpacked"),
    ("smh", "bfloat16", "on_the_fly"), ("smh", "int8", "on_the_fly"),
    ("kronecker", "int4", "on_the_fly"), ("bfloat16", "float32", "on_the_fly"),
    ("multi_hash", "float32", "on_the_fly"), ("combined", "float32", "on_the_fly"),
    ("tucker", "float32", "on_the_fly"), ("tensor_ring", "float32", "on_the_fly"),
    ("dense", "float32", "on_the_fly"),
])  # fmt: skip
def test_onnxruntime_computes_the_models_logits(kind, precision, form, tmp_path):
    made = artifacts.make(kind).at(precision)
    model = onnx_parity(made, form, tmp_path)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["class_names"] == list(made.class_names)
    assert metadata["preprocessing"]["mean"] == list(made.preprocessing.mean)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "gain"),
    [("resnet18", 1), ("efficientnet_b0", 1), ("mobilenet_v2", 1), ("mobilenet_v3_small", 5)],
)
def test_onnxruntime_computes_every_familys_logits(model, gain, tmp_path):
    made = artifacts.make("smh", model, (64, 64, 3), share=0.3, calibrated=True, gain=gain)
    onnx_parity(made, "on_the_fly", tmp_path)


def initializers(model):
    return {tuple(entry.dims): entry for entry in model.graph.initializer}


def test_onnx_holds_the_pools_and_not_the_weights():
    made = artifacts.make("smh", "cifar_resnet20", width=1.0, share=0.1)
    size = len(artifact.encode(made))
    program = artifact.to_onnx(made)
    assert 0.9 * size < len(program) < 1.1 * size
    held = initializers(onnx.load_from_string(program))
    pools = made.stored["pools"]
    for pool in pools.values():
        assert held[pool.shape].raw_data == pool.tobytes()
    largest = max(tensor.size for tensor in made.method.manifest.hashed)
    others = [np.prod(shape) for shape in held if shape not in {p.shape for p in pools.values()}]
    assert max(others) < largest / 10
    assert len(artifact.to_onnx(made, "unpacked")) > 2 * len(program)


def test_onnx_holds_quantized_pools_as_integers():
    made = artifacts.make().at("int8")
    held = initializers(onnx.load_from_string(artifact.to_onnx(made)))
    for quantized in made.stored["pools"].values():
        entry = held[quantized.values.shape]
        assert entry.data_type == onnx.TensorProto.INT8
        assert entry.raw_data == np.asarray(quantized.values).tobytes()


def test_an_operation_without_translation_is_named():
    class Sorted(type(artifacts.make().module)):
        def __call__(self, images, train):
            return jax.numpy.sort(super().__call__(images, train))

    made = artifacts.make()
    odd = artifact.Artifact(**{f: getattr(made, f) for f in made.__dataclass_fields__})
    module = made.module
    fields = {f: getattr(module, f) for f in module.__dataclass_fields__ if f not in ("parent",)}
    odd.__dict__["module"] = Sorted(**fields)
    with pytest.raises(ValueError, match="operation 'sort' has no translation to ONNX"):
        artifact.to_onnx(odd)


def test_forms_that_do_not_exist():
    for export in (artifact.to_onnx, artifact.to_stablehlo):
        with pytest.raises(ValueError, match="form='whole' must be one of on_the_fly, unpacked"):
            export(artifacts.make(), "whole")
