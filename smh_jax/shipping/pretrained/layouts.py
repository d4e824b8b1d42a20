"""How other libraries name the modules of our models, as tables.

A name has fields in braces: `{stage}` and `{block}` count from 1 as ours do, `{index}` counts all
blocks from 0, `{letter}` is a block's in its stage, `{part}` counts a block's parts (expansion,
depthwise, squeeze-excite, projection) from 0, and `{stages}` and `{blocks}` are how many there are.
'{block-1}' and the like are one less or more.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

KERAS = "Keras applications"


class Layout(NamedTuple):
    """A library's names for the modules of a family.

    Attributes:
        library: its name.
        modules: from our modules, outside of blocks and in them, to theirs. 'unexpanded/...' is of
            blocks without an expansion, where their names differ.
        prefix, first_prefix: of the names in blocks; in the first block, where that differs.
        sources: the models that have these names, and the options with which ours compute the same.
    """

    library: str
    modules: Mapping[str, str]
    prefix: str
    sources: Mapping[str, Mapping[str, Any]]
    first_prefix: str | None = None


_PARTS = ("expand", "depthwise", "squeeze_excite", "project")
_CONVOLUTIONS = ("expand", "depthwise", "project")
_BLOCK = re.compile(r"(?:stage(\d+)_)?block(\d+)")
# MobileNetV3's rows of equal width, which timm numbers as stages.
_V3_STAGES = {"mobilenet_v3_large": (1, 2, 3, 4, 2, 3), "mobilenet_v3_small": (1, 2, 3, 2, 3)}


def _conv_bn(names: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The names of convolutions and of their batch norms."""
    convs = {f"{ours}/conv": conv for ours, (conv, _) in names.items()}
    return convs | {f"{ours}/bn": bn for ours, (_, bn) in names.items()}


def _suffixed(names: Mapping[str, str], conv: str, bn: str) -> dict[str, str]:
    return _conv_bn({ours: (name + conv, name + bn) for ours, name in names.items()})


def _padded(bn_epsilon: float, symmetric_padding: bool) -> dict[str, Any]:
    return {"bn_epsilon": bn_epsilon, "symmetric_padding": symmetric_padding}


_TF, _TORCH, _TORCH_1E3 = _padded(1e-3, False), _padded(1e-5, True), _padded(1e-3, True)
_V1_5 = {"bn_epsilon": 1e-5, "stride_on_3x3": True}

_RESNET = (
    Layout(
        "torchvision or timm",
        {
            **_conv_bn({"stem": ("conv1", "bn1"), "shortcut": ("downsample.0", "downsample.1")}),
            **_conv_bn({f"conv{n}": (f"conv{n}", f"bn{n}") for n in (1, 2, 3)}),
            "classifier": "fc",
        },
        "layer{stage}.{block-1}.",
        {"resnet*": _V1_5},
    ),
    Layout(
        "Hugging Face",
        {
            **_suffixed(
                {
                    "stem": "resnet.embedder.embedder",
                    "shortcut": "shortcut",
                    **{f"conv{n}": f"layer.{n - 1}" for n in (1, 2, 3)},
                },
                ".convolution",
                ".normalization",
            ),
            "classifier": "classifier.1",
        },
        "resnet.encoder.stages.{stage-1}.layers.{block-1}.",
        {"ResNetForImageClassification": _V1_5},
    ),
    Layout(
        KERAS,
        {
            **_suffixed(
                {"stem": "conv1", "shortcut": "0", **{f"conv{n}": str(n) for n in (1, 2, 3)}},
                "_conv",
                "_bn",
            ),
            "classifier": "predictions",
        },
        "conv{stage+1}_block{block}_",
        {"ResNet*": {"bn_epsilon": 1.001e-5, "stride_on_3x3": False}},
    ),
)

_TIMM = {
    **_conv_bn(
        {
            "expand": ("conv_pw", "bn1"),
            "depthwise": ("conv_dw", "bn2"),
            "project": ("conv_pwl", "bn3"),
            "unexpanded/depthwise": ("conv_dw", "bn1"),
            "unexpanded/project": ("conv_pw", "bn2"),
            "stem": ("conv_stem", "bn1"),
            "head": ("conv_head", "bn2"),
        }
    ),
    "squeeze_excite/reduce_conv": "se.conv_reduce",
    "squeeze_excite/expand_conv": "se.conv_expand",
    "classifier": "classifier",
}
_TIMM_PREFIX = "blocks.{stage-1}.{block-1}."

_TORCHVISION = {
    **_suffixed(dict.fromkeys(_CONVOLUTIONS, "{part}"), ".0", ".1"),
    "squeeze_excite/reduce_conv": "{part}.fc1",
    "squeeze_excite/expand_conv": "{part}.fc2",
    **_conv_bn({"stem": ("features.0.0", "features.0.1")}),
    "classifier": "classifier.1",
}

_EFFICIENTNET = (
    Layout("timm", _TIMM, _TIMM_PREFIX, {"tf_efficientnet_b*": _TF, "efficientnet_b*": _TORCH}),
    Layout(
        "torchvision",
        {**_TORCHVISION, **_conv_bn({"head": ("features.8.0", "features.8.1")})},
        "features.{stage}.{block-1}.block.",
        {"efficientnet_b0 to b4": _TORCH, "efficientnet_b5 to b7": _TORCH_1E3},
    ),
    Layout(
        "Hugging Face",
        {
            **_conv_bn(
                {
                    "stem": (
                        "efficientnet.embeddings.convolution",
                        "efficientnet.embeddings.batchnorm",
                    ),
                    "expand": ("expansion.expand_conv", "expansion.expand_bn"),
                    "depthwise": ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
                    "project": ("projection.project_conv", "projection.project_bn"),
                    "head": ("efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"),
                }
            ),
            "squeeze_excite/reduce_conv": "squeeze_excite.reduce",
            "squeeze_excite/expand_conv": "squeeze_excite.expand",
            "classifier": "classifier",
        },
        "efficientnet.encoder.blocks.{index}.",
        {"EfficientNetForImageClassification": _TF},
    ),
    Layout(
        KERAS,
        {
            **_conv_bn(
                {
                    "stem": ("stem_conv", "stem_bn"),
                    "expand": ("expand_conv", "expand_bn"),
                    "depthwise": ("dwconv", "bn"),
                    "project": ("project_conv", "project_bn"),
                    "head": ("top_conv", "top_bn"),
                }
            ),
            "squeeze_excite/reduce_conv": "se_reduce",
            "squeeze_excite/expand_conv": "se_expand",
            "classifier": "predictions",
        },
        "block{stage}{letter}_",
        {"EfficientNetB*": _TF},
    ),
)

_MOBILENET_V2 = (
    Layout("timm", _TIMM, _TIMM_PREFIX, {"mobilenetv2_*": _TORCH}),
    Layout(
        "torchvision",
        {
            **_TORCHVISION,
            **_conv_bn(
                {"project": ("{part}", "{part+1}"), "head": ("features.18.0", "features.18.1")}
            ),
        },
        "features.{index+1}.conv.",
        {"mobilenet_v2": _TORCH},
    ),
    Layout(
        "Hugging Face",
        {
            **_suffixed(
                {
                    "stem": "mobilenet_v2.conv_stem.first_conv",
                    "expand": "expand_1x1",
                    "depthwise": "conv_3x3",
                    "project": "reduce_1x1",
                    "head": "mobilenet_v2.conv_1x1",
                },
                ".convolution",
                ".normalization",
            ),
            "classifier": "classifier",
        },
        "mobilenet_v2.layer.{index-1}.",
        {"MobileNetV2ForImageClassification": _TF, "the same with tf_padding=False": _TORCH_1E3},
        first_prefix="mobilenet_v2.conv_stem.",
    ),
    Layout(
        KERAS,
        {
            **_suffixed({part: part for part in _CONVOLUTIONS}, "", "_bn"),
            **_conv_bn({"stem": ("conv1", "bn_conv1"), "head": ("conv_1", "conv_1_bn")}),
            "classifier": "predictions",
        },
        "block_{index}_",
        {"MobileNetV2": _TF},
        first_prefix="expanded_conv_",
    ),
)

_MOBILENET_V3 = (
    Layout(
        "timm",
        {
            **_TIMM,
            **_conv_bn({"head": ("blocks.{stages}.0.conv", "blocks.{stages}.0.bn1")}),
            "hidden": "conv_head",
        },
        _TIMM_PREFIX,
        {"tf_mobilenetv3_*": _TF, "mobilenetv3_*": _TORCH},
    ),
    Layout(
        "torchvision",
        {
            **_TORCHVISION,
            **_conv_bn({"head": ("features.{blocks+1}.0", "features.{blocks+1}.1")}),
            "hidden": "classifier.0",
            "classifier": "classifier.3",
        },
        "features.{index+1}.block.",
        {"mobilenet_v3_*": _TORCH_1E3},
    ),
    Layout(
        KERAS,
        {
            **_suffixed({part: part for part in _CONVOLUTIONS}, "", "_bn"),
            **_conv_bn({"stem": ("conv", "conv_bn"), "head": ("conv_1", "conv_1_bn")}),
            "squeeze_excite/reduce_conv": "squeeze_excite_conv",
            "squeeze_excite/expand_conv": "squeeze_excite_conv_1",
            "hidden": "conv_2",
            "classifier": "logits",
        },
        "expanded_conv_{index}_",
        {"MobileNetV3*": _TF},
        first_prefix="expanded_conv_",
    ),
)

_FAMILIES = {
    "resnet": _RESNET,
    "efficientnet": _EFFICIENTNET,
    "mobilenet_v2": _MOBILENET_V2,
    "mobilenet_v3": _MOBILENET_V3,
}


def of_model(name: str) -> tuple[Layout, ...]:
    """The layouts in which other libraries keep the named model; empty where none has it."""
    return next((found for family, found in _FAMILIES.items() if name.startswith(family)), ())


def names(layout: Layout, model_name: str, modules: Iterable[str]) -> dict[str, str]:
    """The library's name of each of our modules that has tensors.

    Args:
        layout: of `of_model(model_name)`.
        model_name: one of `smh_jax.models.names()`.
        modules: their paths, as in 'stage1_block2/depthwise/conv', in any order.
    """
    parts: dict[str, set[str]] = {}
    outside, inside = [], []
    for module in modules:
        block, _, inner = module.partition("/")
        if _BLOCK.fullmatch(block):
            parts.setdefault(block, set()).add(inner.split("/")[0])
            inside.append((module, block, inner))
        else:
            outside.append(module)
    blocks = sorted(parts, key=_numbers)
    # MobileNetV3's blocks are numbered through.
    stages = _V3_STAGES.get(model_name, ())
    grouped = [(stage, n + 1) for stage, count in enumerate(stages, 1) for n in range(count)]
    positions = grouped or [_numbers(block) for block in blocks]
    counts = {"stages": positions[-1][0], "blocks": len(blocks)}
    found = {module: _fill(layout.modules[module], **counts) for module in outside}
    for module, block, inner in inside:
        index = blocks.index(block)
        stage, number = positions[index]
        present = [part for part in _PARTS if part in parts[block]]
        part = inner.split("/")[0]
        name = layout.modules[inner]
        if "expand" not in present:
            name = layout.modules.get(f"unexpanded/{inner}", name)
        prefix = layout.prefix if index or layout.first_prefix is None else layout.first_prefix
        found[module] = _fill(
            prefix + name,
            stage=stage,
            block=number,
            index=index,
            part=present.index(part) if part in present else 0,
            letter=chr(ord("a") + number - 1),
        )
    return found


def _numbers(block: str) -> tuple[int, int]:
    """The stage, 0 where there is none, and number in a block's name."""
    stage, number = _BLOCK.fullmatch(block).groups()
    return int(stage or 0), int(number)


def _fill(template: str, **fields: int | str) -> str:
    """The template with its fields, and with whole numbers less and more by one."""
    numbers = {name: value for name, value in fields.items() if isinstance(value, int)}
    near = {f"{name}{d:+d}": value + d for name, value in numbers.items() for d in (-1, 1)}
    return template.format(**fields, **near)
