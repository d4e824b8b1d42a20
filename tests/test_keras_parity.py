"""Logits equal those of keras.applications, an independent implementation, on the same weights."""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import keras
import numpy as np
import pytest
from flax import traverse_util

from smh_jax import Manifest, models
from smh_jax.models import efficientnet, mobilenet_v2

TOLERANCE = 1e-4


class Pair(NamedTuple):
    """A model of ours and how Keras calls it.

    Attributes:
        options: of ours.
        arguments: of Keras' constructor.
        input_scale: Keras' EfficientNet divides its input by 255 itself.
    """

    name: str
    keras_name: str
    options: Mapping[str, Any] = MappingProxyType({})
    arguments: Mapping[str, Any] = MappingProxyType({})
    input_scale: float = 1.0


PAIRS = {
    **{
        f"efficientnet_b{number}": Pair(
            f"efficientnet_b{number}", f"EfficientNetB{number}", input_scale=255.0
        )
        for number in range(8)
    },
    **{
        f"mobilenet_v2_{width}": Pair(
            "mobilenet_v2", "MobileNetV2", {"width_multiplier": width}, {"alpha": width}
        )
        for width in (1.0, 0.5, 1.4)
    },
    **{
        f"mobilenet_v3_{size}": Pair(
            f"mobilenet_v3_{size}",
            f"MobileNetV3{size.capitalize()}",
            arguments={"include_preprocessing": False, "minimalistic": False},
        )
        for size in ("large", "small")
    },
    # Keras' is v1, with an epsilon of its own.
    **{
        f"resnet{depth}": Pair(
            f"resnet{depth}", f"ResNet{depth}", {"stride_on_3x3": False, "bn_epsilon": 1.001e-5}
        )
        for depth in (50, 101, 152)
    },
}
KINDS = {
    keras.layers.Conv2D: "conv",
    keras.layers.DepthwiseConv2D: "conv",
    keras.layers.BatchNormalization: "batch_norm",
    keras.layers.Dense: "dense",
}


@pytest.fixture(autouse=True)
def _free_keras_models():
    yield
    keras.backend.clear_session()


def keras_model(pair: Pair, images: np.ndarray) -> keras.Model:
    """Keras' model with random weights, biases (but in a ResNet) and batch-norm variables.

    The batch norms normalise the given images to random means and deviations: with just any
    variables the signal dies or explodes on its way through fifty layers, and logits that hardly
    depend on the images compare equal whatever the first layers do. The biases are large enough
    to reach every bend of the activations.
    """
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, pair.keras_name)(
        weights=None,
        input_shape=images.shape[1:],
        classifier_activation=None,
        **pair.arguments,
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(0.3, 0.9, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 1.5, layer.beta.shape))
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
        elif getattr(layer, "use_bias", False) and not (
            "resnet" in pair.name and "conv" in layer.name
        ):
            layer.bias.assign(rng.normal(0, 1.5, layer.bias.shape))
    model(images * pair.input_scale, training=True)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # The statistics move, too; scale and bias follow, so that the function stays.
            gamma, beta, mean, variance = layer.get_weights()
            shift = rng.normal(0, 1, mean.shape)
            stretch = rng.uniform(1, 2, mean.shape)
            layer.set_weights(
                [
                    gamma * stretch,
                    beta + gamma * shift,
                    mean + np.sqrt(variance + layer.epsilon) * shift,
                    (variance + layer.epsilon) * stretch**2 - layer.epsilon,
                ]
            )
    return model


def weighted_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights in the order in which they run, a ResNet block's shortcut first."""

    def position(layer: keras.Layer) -> tuple[int, ...]:
        match = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer.name)
        if match is None:
            return (9,) if layer.name == "predictions" else (0,)
        stage, block, number, kind = match.groups()
        return int(stage), int(block), int(number), kind == "bn"

    layers = [layer for layer in model.layers if type(layer) in KINDS]
    return sorted(layers, key=position) if model.name.startswith("resnet") else layers


def our_variables(manifest: Manifest, model: keras.Model) -> dict:
    """Keras' weights as the variables of our model, matched by order of creation alone."""
    layers = {}
    for tensor in manifest.tensors:
        layers.setdefault(tensor.path[:-1], []).append(tensor)
    params, batch_stats = {}, {}
    for (path, tensors), layer in zip(layers.items(), weighted_layers(model), strict=True):
        names = [tensor.path[-1] for tensor in tensors]
        weights = layer.get_weights()
        is_logits_convolution = layer.name == "logits"
        assert tensors[0].layer == ("dense" if is_logits_convolution else KINDS[type(layer)])
        if isinstance(layer, keras.layers.BatchNormalization):
            batch_stats[(*path, "mean")], batch_stats[(*path, "var")] = weights[2:]
            weights = weights[:2]
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            weights[0] = weights[0].swapaxes(2, 3)
        elif is_logits_convolution:
            weights[0] = weights[0][0, 0]
        if names == ["kernel"] and len(weights) == 2:
            assert not weights.pop().any(), f"{layer.name} has a bias that ours has not"
        for tensor, weight in zip(tensors, weights, strict=True):
            assert weight.shape == tensor.shape, (tensor.name, layer.name)
            params[tensor.path] = weight
    return {
        "params": traverse_util.unflatten_dict(params),
        "batch_stats": traverse_util.unflatten_dict(batch_stats),
    }


def random_images(resolution: int) -> np.ndarray:
    """Two images with structure at every scale; of white noise, deep layers see only the mean."""
    rng = np.random.default_rng(1)
    octaves = [
        jax.image.resize(
            rng.normal(0, 0.4, (2, side, side, 3)), (2, resolution, resolution, 3), "bilinear"
        )
        for side in (2, 4, 8, 16, 32, 64)
    ]
    return np.asarray(sum(octaves), np.float32)


def disagreement(pair: Pair, model: nn.Module, reference: keras.Model, images: np.ndarray) -> float:
    """Largest difference of the logits, relative to the largest logit."""
    manifest = Manifest.from_model(model, images.shape, measure=False)
    variables = our_variables(manifest, reference)
    ours = jax.jit(lambda variables, x: model.apply(variables, x, train=False))(variables, images)
    theirs = np.asarray(reference(images * pair.input_scale, training=False))
    largest = np.abs(theirs).max()
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01 * largest, "the logits ignore the images"
    return np.abs(ours - theirs).max() / largest


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["efficientnet_b2", "mobilenet_v2_1.0", "mobilenet_v3_large", "resnet50"]
)
def test_logits_and_multiply_adds_equal_those_of_keras(name):
    """One of each family at its paper's resolution; all at 64 pixels: tests/test_pretrained.py."""
    check(name, models.default_resolution(PAIRS[name].name))


def check(name: str, resolution: int) -> tuple[nn.Module, keras.Model, np.ndarray]:
    """Compares a model with Keras'; returns both and the images."""
    pair = PAIRS[name]
    images = random_images(resolution)
    reference = keras_model(pair, images)
    model = models.create(pair.name, num_classes=1000, **pair.options)
    assert disagreement(pair, model, reference, images) < TOLERANCE
    check_multiply_adds(model, reference, images)
    return model, reference, images


def check_multiply_adds(model: nn.Module, reference: keras.Model, images: np.ndarray) -> None:
    """Those of our count are those of Keras' layers."""
    count = models.count_multiply_adds(model, (1, *images.shape[1:]))
    assert count == sum(multiply_adds(layer) for layer in weighted_layers(reference))


def multiply_adds(layer: keras.Layer) -> int:
    """Of one Keras layer and image: outputs times the inputs summed into each."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return 0
    inputs_per_output = math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        inputs_per_output = math.prod(layer.kernel.shape[:2])
    return math.prod(layer.output.shape[1:]) * inputs_per_output


def other_stride(stages: tuple, index: int) -> tuple:
    """The stages with one that strides where it should not."""
    return (*stages[:index], stages[index]._replace(stride=2), *stages[index + 1 :])


def perturb_efficientnet(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    # The last stage is one block.
    monkeypatch.setattr(efficientnet, "STAGES", other_stride(efficientnet.STAGES, 6))
    return model


def perturb_mobilenet_v2(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(mobilenet_v2, "STAGES", other_stride(mobilenet_v2.STAGES, 6))
    return model


def uncap_mobilenet_v2(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(nn, "relu6", nn.relu)
    return model


def perturb_mobilenet_v3(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    blocks = list(model.blocks)
    blocks[4] = blocks[4]._replace(activation=nn.hard_swish)
    return model.clone(blocks=tuple(blocks))


def perturb_resnet(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    return model.clone(stride_on_3x3=True)


@pytest.mark.parametrize(
    ("name", "perturbations"),
    [
        pytest.param("efficientnet_b0", [perturb_efficientnet], marks=pytest.mark.slow),
        pytest.param(
            "mobilenet_v2_1.0",
            [perturb_mobilenet_v2, uncap_mobilenet_v2],
            marks=pytest.mark.slow,
        ),
        pytest.param("mobilenet_v3_large", [perturb_mobilenet_v3], marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", [], marks=pytest.mark.slow),
        pytest.param("resnet50", [perturb_resnet], marks=pytest.mark.slow),
    ],
)
def test_small_images_and_that_another_setting_is_noticed(name, perturbations, monkeypatch):
    model, reference, images = check(name, 64)
    for perturb in perturbations:
        with monkeypatch.context() as patch:
            perturbed = perturb(model, patch)
            found = disagreement(PAIRS[name], perturbed, reference, images)
        assert found > 10 * TOLERANCE, perturb
