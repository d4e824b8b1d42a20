"""Weights that other libraries have written give our models those libraries' own logits."""

import importlib.util
import pathlib
import pickle
import zipfile

import flax.traverse_util
import h5py
import jax
import keras
import numpy as np
import pytest
import safetensors.numpy

import smh_jax
from smh_jax import models, pretrained
from smh_jax.shipping import conversion
from smh_jax.shipping.pretrained import layouts, readers
from tests.small import digits_config
from tests.test_keras_parity import (
    PAIRS,
    TOLERANCE,
    check_multiply_adds,
    keras_model,
    random_images,
)

PYTORCH = {"symmetric_padding": True, "bn_epsilon": 1e-5}
PYTORCH_1E3 = {"symmetric_padding": True, "bn_epsilon": 1e-3}
# Ours, the library's, and our options.
TIMM = [
    *((f"resnet{n}", f"resnet{n}", {}) for n in (18, 50, 101, 152)),
    *((f"efficientnet_b{n}", f"tf_efficientnet_b{n}", {}) for n in range(8)),
    *((f"efficientnet_b{n}", f"efficientnet_b{n}", PYTORCH) for n in range(8)),
    ("mobilenet_v2", "mobilenetv2_100", PYTORCH),
    ("mobilenet_v2", "mobilenetv2_140", PYTORCH | {"width_multiplier": 1.4}),
    *((f"mobilenet_v3_{s}", f"tf_mobilenetv3_{s}_100", {}) for s in ("large", "small")),
    *((f"mobilenet_v3_{s}", f"mobilenetv3_{s}_100", PYTORCH) for s in ("large", "small")),
]
TORCHVISION = [
    *((f"resnet{n}", {}) for n in (18, 50, 101, 152)),
    *((f"efficientnet_b{n}", PYTORCH if n < 5 else PYTORCH_1E3) for n in range(8)),
    ("mobilenet_v2", PYTORCH),
    *((f"mobilenet_v3_{s}", PYTORCH_1E3) for s in ("large", "small")),
]
HUGGING_FACE = [
    *((f"resnet{n}", f"resnet{n}", {}) for n in (18, 50, 101)),
    *((f"efficientnet_b{n}", f"efficientnet_b{n}", {}) for n in range(8)),
    ("mobilenet_v2", "mobilenet_v2", {}),
    ("mobilenet_v2", "mobilenet_v2_symmetric", PYTORCH_1E3),
]


def ours(name, path, options, images):
    collections = pretrained.load(name, path, **options)
    num_classes = collections["params"]["classifier"]["bias"].size
    model = models.create(name, num_classes=num_classes, **options)
    return jax.jit(lambda variables, x: model.apply(variables, x, train=False))(collections, images)


def assert_same(logits, expected):
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * largest, "the logits ignore the images"
    error = np.abs(logits - expected).max() / largest
    print(f"relative error {error:.1e}")
    assert error < TOLERANCE


def of_keras(key, resolution):
    """Keras' model, its convolutions with biases if it has any, and how to call it."""
    pair = PAIRS[key]
    images = random_images(resolution)
    reference = keras_model(pair, images)
    rng = np.random.default_rng(2)
    by_name = {layer.name: layer for layer in reference.layers}
    for name, layer in by_name.items():
        if "resnet" in key and name.endswith("_conv"):
            layer.bias.assign(rng.normal(0, 1, layer.bias.shape))
            norm = by_name[name.removesuffix("conv") + "bn"]
            norm.moving_mean.assign(norm.moving_mean + layer.bias)
    return reference, images, np.asarray(reference(images * pair.input_scale, training=False))


@pytest.mark.slow
def test_both_formats_of_keras(tmp_path):
    reference, images, expected = of_keras("mobilenet_v3_small", 64)
    loaded = []
    for ending in ("weights.h5", "keras"):
        path = tmp_path / f"model.{ending}"
        (reference.save_weights if ending == "weights.h5" else reference.save)(path)
        loaded.append(pretrained.load("mobilenet_v3_small", path))
    jax.tree.map(np.testing.assert_array_equal, *loaded)
    assert_same(ours("mobilenet_v3_small", path, {}, images), expected)


@pytest.mark.slow
def test_the_format_of_keras_2(tmp_path):
    reference, _, _ = of_keras("mobilenet_v3_small", 64)
    reference.save_weights(tmp_path / "new.weights.h5")
    # As its downloads are: names with slashes, and all layers of the model.
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in reference.layers]
        for layer in reference.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(variable)
    new, old = (
        pretrained.load("mobilenet_v3_small", tmp_path / n) for n in ("new.weights.h5", "old.h5")
    )
    jax.tree.map(np.testing.assert_array_equal, new, old)


@pytest.mark.slow
@pytest.mark.parametrize("key", PAIRS)
def test_keras_applications(key, tmp_path):
    pair = PAIRS[key]
    reference, images, expected = of_keras(key, 64)
    path = tmp_path / "model.weights.h5"
    reference.save_weights(path)
    assert_same(ours(pair.name, path, dict(pair.options), images), expected)
    model = models.create(pair.name, num_classes=1000, **pair.options)
    check_multiply_adds(model, reference, images)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    """A state dict of ResNet-18 in torchvision's names, of zeros and with 7 classes."""
    like = models.create("resnet18", num_classes=7)
    init = jax.eval_shape(
        lambda: like.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False)
    )
    layout = layouts.of_model("resnet18")[0]
    flat = flax.traverse_util.flatten_dict(init, sep="/")
    modules = {path: path.split("/", 1)[1].rsplit("/", 1)[0] for path in flat}
    theirs = layouts.names(layout, "resnet18", modules.values())
    tensors = {"bn1.num_batches_tracked": np.array(3)}
    leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    for path, x in flat.items():
        leaf = path.rsplit("/", 1)[1]
        zeros = np.zeros(x.shape, np.float32)
        zeros = zeros.transpose(3, 2, 0, 1) if zeros.ndim == 4 else zeros.T
        name = f"{theirs[modules[path]]}.{leaves.get(leaf, leaf)}"
        tensors[name] = np.ascontiguousarray(zeros)
    path = tmp_path_factory.mktemp("files") / "resnet18.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path, tensors


@pytest.mark.slow
def test_what_does_not_fit_is_named(resnet_file, tmp_path):
    path, tensors = resnet_file
    assert smh_jax.pretrained.load("resnet18", path)["params"]["classifier"]["bias"].size == 7
    cases = (
        ("resnet18", {"num_classes": 10}, r"fc.weight gives \(512, 7\) where .* is \(512, 10\)"),
        ("resnet50", {}, r"layer1.0.bn3.running_mean .*missing.*fits model resnet18"),
        ("resnet18", {"stride_on_3x3": False}, "options that are right are .*stride_on_3x3=True"),
        ("cifar_resnet20", {}, "in none of the libraries.*resnet18"),
        ("resnet_18", {}, "did you mean resnet18"),
    )
    for name, options, message in cases:
        with pytest.raises(ValueError, match=message):
            pretrained.load(name, path, **options)
    changed = {n: x for n, x in tensors.items() if n != "bn1.bias"} | {"extra": np.zeros(2)}
    changed["conv1.bias"] = np.zeros(3, np.float32)
    safetensors.numpy.save_file(changed, tmp_path / "changed.safetensors")
    with pytest.raises(ValueError, match=r"bn1.bias .*missing.*bias.* no place.*extra .*not of"):
        pretrained.load("resnet18", tmp_path / "changed.safetensors")


def test_biases_of_convolutions_go_into_the_means(resnet_file, tmp_path):
    _, tensors = resnet_file
    bias = np.arange(64, dtype=np.float32)
    path = tmp_path / "biased.safetensors"
    safetensors.numpy.save_file(tensors | {"layer1.0.conv1.bias": bias}, path)
    loaded = pretrained.load("resnet18", path)["batch_stats"]["stage1_block1"]
    np.testing.assert_array_equal(loaded["conv1"]["bn"]["mean"], -bias)
    assert not loaded["conv2"]["bn"]["mean"].any()


def test_files_that_cannot_be_read(resnet_file, tmp_path):
    whole = resnet_file[0].read_bytes()

    def keras_file(path, change=lambda variables: None, name="conv"):
        with h5py.File(path, "w") as file:
            variables = file.create_group("layers/conv2d/vars")
            if name:
                variables.attrs["name"] = name
            change(variables)

    def archive(path, content):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("model.weights.h5", content)

    def virtual(variables):
        layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3,))
        variables.create_virtual_dataset("0", layout)

    (tmp_path / "cut.safetensors").write_bytes(whole[:-10])
    (tmp_path / "text.h5").write_text("no file of h5py")
    (tmp_path / "text.keras").write_text("no archive")
    (tmp_path / "model.onnx").write_text("")
    archive(tmp_path / "bomb.keras", b"0" * 10**7)
    archive(tmp_path / "other.keras", b"no file of h5py")
    keras_file(tmp_path / "huge.h5", lambda v: v.create_dataset("0", (10**12,), chunks=(1,)))
    keras_file(tmp_path / "link.h5", lambda v: v.__setitem__("0", h5py.ExternalLink("a", "b")))
    keras_file(tmp_path / "virtual.h5", virtual)
    keras_file(
        tmp_path / "external.h5",
        lambda v: v.create_dataset("0", (3,), "f4", external=[("/etc/passwd", 0, 12)]),
    )
    keras_file(tmp_path / "words.h5", lambda v: v.create_dataset("0", data=["a"]))
    keras_file(tmp_path / "nameless.h5", lambda v: v.create_dataset("0", data=[1.0]), name=None)
    keras_file(tmp_path / "empty.h5")
    for name, message in {
        "cut.safetensors": "cannot be read",
        "text.h5": "cannot be read",
        "text.keras": "cannot be read: File is not a zip file",
        "bomb.keras": "far more than it has",
        "other.keras": "cannot be read",
        "huge.h5": "not in the file",
        "link.h5": "is a link",
        "virtual.h5": "not in the file",
        "external.h5": "not in the file",
        "words.h5": "holds no numbers",
        "nameless.h5": "have no names",
        "empty.h5": "no named tensors",
        "model.onnx": "must be a file",
        "missing.pt": "is not a file",
    }.items():
        with pytest.raises(ValueError, match=message) as raised:
            readers.read(tmp_path / name)
        assert f"params={tmp_path / name}" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_state_dicts_of_pytorch(tmp_path):
    path = tmp_path / "model.pt"
    # What runs when it is unpickled.
    path.write_bytes(pickle.dumps(pathlib.Path("of no tensor")))
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(ValueError, match=r"needs torch: pip install 'smh_jax\[torch\]'"):
            readers.read(path)
        return
    import torch

    with pytest.raises(ValueError, match=r"save model.state_dict\(\)"):
        readers.read(path)
    tensors = {"module.a": torch.ones(2, dtype=torch.bfloat16), "module.n": torch.tensor(3)}
    torch.save({"state_dict": tensors, "epoch": 3}, path)
    loaded = readers.read(path)
    assert {name: (x.dtype, x.tolist()) for name, x in loaded.items()} == {
        "a": (np.float32, [1.0, 1.0]),
        "n": (np.int64, 3),
    }


@pytest.mark.slow
def test_conversion_of_another_librarys_weights(digits_dir, tmp_path):
    path = tmp_path / "model.weights.h5"
    keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=10).save_weights(path)
    config = digits_config(
        digits_dir,
        data__name="cifar10",
        model__name="mobilenet_v3_small",
        model__options=models.default_options("mobilenet_v3_small"),
        method__name="dense",
        method__target_size=None,
        method__options={},
    )
    converted = conversion.of_params(str(path), config)
    expected = pretrained.load("mobilenet_v3_small", path)
    jax.tree.map(np.testing.assert_array_equal, converted.params, expected["params"])
    jax.tree.map(
        np.testing.assert_array_equal, converted.model_state["batch_stats"], expected["batch_stats"]
    )
    conversion.convert(converted, tmp_path / "run")
    assert (tmp_path / "run" / "conversion.json").exists()


def check_torch(library, theirs, name, options, run_python, tmp_path, resolution=96):
    """Compares logits with those of a library's model in a process of its own.

    TensorFlow and torchvision in one process may crash.
    """
    if not all(map(importlib.util.find_spec, ("torch", library))):
        pytest.skip(f"needs {library}")
    np.save(tmp_path / "images.npy", random_images(resolution))
    # In no fork of this process, which has TensorFlow loaded.
    run_python("-m", "tests.torch_files", library, theirs, str(tmp_path), anew=True)
    (path,) = tmp_path.glob("model.*")
    images, expected = (np.load(tmp_path / name) for name in ("images.npy", "logits.npy"))
    assert_same(ours(name, path, options, images), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "theirs", "options"), TIMM, ids=[theirs for _, theirs, _ in TIMM])
def test_timm(name, theirs, options, run_python, tmp_path):
    check_torch("timm", theirs, name, options, run_python, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), TORCHVISION, ids=[name for name, _ in TORCHVISION])
def test_torchvision(name, options, run_python, tmp_path):
    check_torch("torchvision", name, name, options, run_python, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs", "options"), HUGGING_FACE, ids=[theirs for _, theirs, _ in HUGGING_FACE]
)
def test_hugging_face(name, theirs, options, run_python, tmp_path):
    # At 64 pixels every map has an even side until it is a single pixel, as its padding wants.
    check_torch("transformers", theirs, name, options, run_python, tmp_path, resolution=64)
