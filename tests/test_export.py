"""The computation for other programs: parity in processes that cannot import the project."""

import functools
import json
import sys

import jax
import numpy as np
import onnx
import pytest

from smh_jax.shipping import artifact, stablehlo
from smh_jax.shipping import onnx as onnx_export
from smh_jax.shipping.onnx.tensors import TRANSLATIONS
from tests import artifacts

# Each computes 'logits' of the images and of the first image alone, for every program of a folder.
RUN_STABLEHLO = """
import jax.export
def run(path, images):
    program = jax.export.deserialize(bytearray(open(path, 'rb').read()))
    assert program.platforms == ('cpu', 'cuda', 'tpu'), program.platforms
    return program.call(images)
"""
RUN_ONNX = """
import onnxruntime
sessions = {}
def run(path, images):
    if path not in sessions:
        sessions[path] = onnxruntime.InferenceSession(path)
    logits, = sessions[path].run(['logits'], {'images': images})
    return logits
"""
RUN_ALL = """
images = np.load(sys.argv[2])
out = np.stack([
    np.concatenate([np.asarray(run(path, images)), np.asarray(run(path, images[:1]))])
    for path in sys.argv[3:]
])
"""
NO_PROJECT = ("smh_jax", "flax", "qwix")
NO_JAX = (*NO_PROJECT, "jax", "onnx")
STABLEHLO_CASES = [
    ("smh", "float32", "on_the_fly"), ("smh", "float32", "unpacked"),
    ("kronecker", "int4", "on_the_fly"), ("smh", "coded:0.5", "on_the_fly"),
]  # fmt: skip
ONNX_CASES = [
    ("smh", "float32", "on_the_fly"), ("smh", "float32", "unpacked"),
    ("smh", "bfloat16", "on_the_fly"), ("smh", "int8", "on_the_fly"),
    ("kronecker", "int4", "on_the_fly"), ("bfloat16", "float32", "on_the_fly"),
    ("multi_hash", "float32", "on_the_fly"), ("combined", "float32", "on_the_fly"),
    ("tucker", "float32", "on_the_fly"), ("tensor_ring", "float32", "on_the_fly"),
    ("dense", "float32", "on_the_fly"), ("smh", "coded:0.5", "on_the_fly"),
    ("smh", "coded:0.5", "unpacked"), ("dense", "int2", "on_the_fly"),
]  # fmt: skip


def logits_alone(programs, code, forbidden, images, folder):
    """What each program computes of all images and of the first alone, in one process."""
    np.save(folder / "images.npy", images)
    paths = [folder / str(number) for number in range(len(programs))]
    for path, program in zip(paths, programs, strict=True):
        path.write_bytes(program)
    arguments = map(str, (folder / "images.npy", *paths))
    return artifacts.run_alone(code + RUN_ALL, folder, forbidden, *arguments)


@pytest.fixture(scope="module")
def expected_logits():
    """The function that gives an artifact's logits, as `materialize` and the model make them."""
    known = {}

    def logits(kind, precision):
        if (kind, precision) not in known:
            model = saved_and_loaded(kind, precision)
            known[kind, precision] = model_logits(model, artifacts.images(3))
        return known[kind, precision]

    return logits


def model_logits(model, images):
    @jax.jit
    def apply(stored):
        params = model.method.materialize(model.restore(stored))
        return model.module.apply({"params": params, **model.model_state}, images, False)

    logits = np.asarray(apply(model.stored))
    # Images differ in their logits, and so do classes: a constant is not mistaken for a model.
    assert np.ptp(logits, axis=0).max() > 0.05
    return np.concatenate([logits, logits[:1]])


def exported(export, cases):
    return [export(saved_and_loaded(kind, precision), form) for kind, precision, form in cases]


@functools.cache
def saved_and_loaded(kind, precision):
    """The artifact; a coded one is decoded from its file."""
    made = artifacts.make(kind).at(precision)
    coded = precision.startswith("coded")
    return artifact.file.decode(artifact.encode(made)) if coded else made


@pytest.fixture(scope="module")
def onnx_files():
    return dict(zip(ONNX_CASES, exported(onnx_export.export, ONNX_CASES), strict=True))


@pytest.fixture(scope="module")
def onnx_logits(onnx_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    programs = list(onnx_files.values())
    logits = logits_alone(programs, RUN_ONNX, NO_JAX, artifacts.images(3), folder)
    return dict(zip(onnx_files, logits, strict=True))


@pytest.fixture(scope="module")
def stablehlo_logits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stablehlo")
    programs = exported(stablehlo.export, STABLEHLO_CASES)
    logits = logits_alone(programs, RUN_STABLEHLO, NO_PROJECT, artifacts.images(3), folder)
    return dict(zip(STABLEHLO_CASES, logits, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", STABLEHLO_CASES, ids="-".join)
def test_stablehlo_computes_the_models_logits_with_jax_alone(
    case, stablehlo_logits, expected_logits
):
    expected = expected_logits(*case[:2])
    np.testing.assert_allclose(stablehlo_logits[case], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ONNX_CASES, ids="-".join)
def test_onnxruntime_computes_the_models_logits(case, onnx_logits, expected_logits):
    expected = expected_logits(*case[:2])
    np.testing.assert_allclose(onnx_logits[case], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "gain"),
    [
        ("resnet18", 1),
        ("efficientnet_b0", 1),
        ("mobilenet_v2", 1),
        ("mobilenet_v3_small", 5),
    ],
)
def test_onnxruntime_computes_every_familys_logits(model, gain, tmp_path):
    shape = (64, 64, 3)
    trained = artifacts.make("smh", model, shape, share=0.3, calibrated=True, gain=gain)
    images = artifacts.images(3, shape)
    program = onnx_export.export(trained)
    (logits,) = logits_alone([program], RUN_ONNX, NO_JAX, images, tmp_path)
    np.testing.assert_allclose(logits, model_logits(trained, images), rtol=1e-4, atol=1e-4)


def test_onnx_says_how_images_are_prepared(onnx_files):
    saved = artifacts.make()
    model = onnx.load_from_string(onnx_files[ONNX_CASES[0]])
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["class_names"] == list(saved.class_names)
    assert metadata["preprocessing"]["mean"] == list(saved.preprocessing.mean)


def initializers(model):
    return {tuple(entry.dims): entry for entry in model.graph.initializer}


def test_onnx_holds_the_pools_and_not_the_weights():
    saved = artifacts.make("smh", "cifar_resnet8", width=2.0, share=0.1)
    size = len(artifact.encode(saved))
    program = onnx_export.export(saved)
    assert 0.9 * size < len(program) < 1.1 * size
    held = initializers(onnx.load_from_string(program))
    pools = saved.stored["pools"]
    for pool in pools.values():
        assert held[pool.shape].raw_data == pool.tobytes()
    largest = max(tensor.size for tensor in saved.method.manifest.hashed)
    others = [np.prod(shape) for shape in held if shape not in {p.shape for p in pools.values()}]
    assert max(others) < largest / 10
    assert len(onnx_export.export(saved, "unpacked")) > 2 * len(program)


def test_onnx_holds_quantized_pools_as_integers(onnx_files):
    held = initializers(onnx.load_from_string(onnx_files["smh", "int8", "on_the_fly"]))
    for quantized in artifacts.make().at("int8").stored["pools"].values():
        entry = held[quantized.values.shape]
        assert entry.data_type == onnx.TensorProto.INT8
        assert entry.raw_data == np.asarray(quantized.values).tobytes()


def test_an_operation_without_translation_is_named(monkeypatch):
    monkeypatch.delitem(TRANSLATIONS, "conv_general_dilated")
    message = "operation 'conv_general_dilated' has no translation to ONNX"
    with pytest.raises(ValueError, match=message):
        onnx_export.export(artifacts.make())


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("smh_jax.shipping.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"pip install 'smh_jax\[onnx\]'"):
        __import__("smh_jax.shipping.onnx")


def test_forms_that_do_not_exist():
    for export in (onnx_export.export, stablehlo.export):
        with pytest.raises(ValueError, match="form='whole' must be one of on_the_fly, unpacked"):
            export(artifacts.make(), "whole")
