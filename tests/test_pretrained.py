"""Weights that other libraries have written give our models those libraries' own logits."""

import json
import pathlib
import pickle
import zipfile

import h5py
import jax
import keras
import numpy as np
import pytest
import safetensors.numpy

import smh_jax
from smh_jax import models, pretrained
from smh_jax.config import MethodConfig
from smh_jax.shipping import conversion
from smh_jax.shipping.pretrained import layouts, readers
from tests.small import digits_config
from tests.test_keras_parity import FAST, PAIRS, TOLERANCE, keras_model, random_images

PYTORCH = {"symmetric_padding": True, "bn_epsilon": 1e-5}
PYTORCH_1E3 = {"symmetric_padding": True, "bn_epsilon": 1e-3}
# Ours, the library's, and our options.
TIMM = [
    *((f"resnet{n}", f"resnet{n}", {}) for n in (18, 50, 101)),
    *((f"efficientnet_b{n}", f"tf_efficientnet_b{n}", {}) for n in range(8)),
    *((f"efficientnet_b{n}", f"efficientnet_b{n}", PYTORCH) for n in range(8)),
    ("mobilenet_v2", "mobilenetv2_100", PYTORCH),
    ("mobilenet_v2", "mobilenetv2_140", PYTORCH | {"width_multiplier": 1.4}),
    *((f"mobilenet_v3_{s}", f"tf_mobilenetv3_{s}_100", {}) for s in ("large", "small")),
    *((f"mobilenet_v3_{s}", f"mobilenetv3_{s}_100", PYTORCH) for s in ("large", "small")),
]
TORCHVISION = [
    *((f"resnet{n}", {}) for n in (18, 50, 101)),
    *((f"efficientnet_b{n}", PYTORCH if n < 5 else PYTORCH_1E3) for n in range(8)),
    ("mobilenet_v2", PYTORCH),
    *((f"mobilenet_v3_{s}", PYTORCH_1E3) for s in ("large", "small")),
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


def test_both_formats_of_keras(tmp_path):
    reference, images, expected = of_keras("mobilenet_v3_small", 64)
    loaded = []
    for ending in ("weights.h5", "keras"):
        path = tmp_path / f"model.{ending}"
        (reference.save_weights if ending == "weights.h5" else reference.save)(path)
        loaded.append(pretrained.load("mobilenet_v3_small", path))
    jax.tree.map(np.testing.assert_array_equal, *loaded)
    assert_same(ours("mobilenet_v3_small", path, {}, images), expected)


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


def randomized(torch, module, images):
    """Gives a module random biases and batch norms, whose statistics are those of the images."""
    torch.manual_seed(0)
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.uniform_(0.3, 0.9)
                m.bias.normal_(0, 1.5)
            elif isinstance(m, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(m.weight)
                if m.bias is not None:
                    m.bias.normal_(0, 1)
        module.eval()
        for norm in norms:
            norm.train()
            # What batch norm averages in the end is the statistics of the last batch alone.
            norm.momentum = 1.0
        module(images)
        return module.eval()


def check_torch(build, name, options, tmp_path, resolution=96, ending="pt"):
    """Compares logits; `build` makes the library's model."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    images = random_images(resolution)
    theirs = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    module = randomized(torch, build(), theirs)
    path = tmp_path / f"model.{ending}"
    if ending == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path)
    with torch.no_grad():
        expected = module(theirs)
    expected = getattr(expected, "logits", expected).numpy()
    assert_same(ours(name, path, options, images), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "theirs", "options"), TIMM, ids=[theirs for _, theirs, _ in TIMM])
def test_timm(name, theirs, options, tmp_path):
    timm = pytest.importorskip("timm")
    check_torch(lambda: timm.create_model(theirs), name, options, tmp_path, ending="safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), TORCHVISION, ids=[name for name, _ in TORCHVISION])
def test_torchvision(name, options, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    check_torch(getattr(torchvision.models, name), name, options, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v2_pytorch"]
)
def test_hugging_face(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    if name.startswith("resnet"):
        variant = models.create(name, num_classes=1)
        config = transformers.ResNetConfig(
            depths=list(variant.stage_sizes),
            hidden_sizes=[256, 512, 1024, 2048] if variant.bottleneck else [64, 128, 256, 512],
            layer_type="bottleneck" if variant.bottleneck else "basic",
            num_labels=10,
        )
        build, options = transformers.ResNetForImageClassification, {}
    else:
        symmetric = name.endswith("pytorch")
        config = transformers.MobileNetV2Config(tf_padding=not symmetric, num_labels=10)
        build, options = transformers.MobileNetV2ForImageClassification, {}
        name, options = "mobilenet_v2", PYTORCH_1E3 if symmetric else {}
    check_torch(lambda: build(config), name, options, tmp_path, ending="safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_hugging_face_efficientnet(number, tmp_path):
    transformers = pytest.importorskip("transformers")
    name = f"efficientnet_b{number}"
    fixed = models.create(name, num_classes=1)
    config = transformers.EfficientNetConfig(
        width_coefficient=fixed.width_coefficient,
        depth_coefficient=fixed.depth_coefficient,
        hidden_dim=fixed._filters(1280),
        # Of no block: every map in these images has an even side until the last stride.
        depthwise_padding=[],
        num_labels=10,
    )
    build = transformers.EfficientNetForImageClassification
    check_torch(lambda: build(config), name, {}, tmp_path, resolution=64, ending="safetensors")
