"""One color per method, the same in every picture; apart for every kind of eyes.

The eight of Okabe and Ito (https://jfly.uni-koeln.de/color/), and tints of them.
"""

import re

# By the name that a picture shows, in small letters.
COLORS = {
    **dict.fromkeys(("uncompressed", "dense"), "#000000"),
    # Of one color, with markers of their own.
    **dict.fromkeys(("smh", "smh 10%", "smh, 4 blocks", "smh at 25%", "on the fly"), "#0072b2"),
    **dict.fromkeys(("learnable scales", "all weights"), "#0072b2"),
    **dict.fromkeys(("smh 25%", "smh, kronecker", "kronecker"), "#003a5c"),
    "smh, convolutions only, kronecker": "#003a5c",
    **dict.fromkeys(("smh, fixed scale", "fixed scales"), "#7f7f00"),
    "convolutions only": "#e69f00",
    **dict.fromkeys(("1 hash", "multi_hash"), "#f0c000"),
    "2 hashes": "#e69f00",
    "10 hashes": "#d55e00",
    **dict.fromkeys(("width multiplier", "width", "width multiplier 10%"), "#009e73"),
    **dict.fromkeys(("width multiplier + resolution", "width multiplier 25%"), "#66c2a5"),
    **dict.fromkeys(("low rank", "low_rank"), "#cc79a7"),
    "tucker": "#8c564b",
    **dict.fromkeys(("tensor train", "tensor_train"), "#56b4e9"),
    **dict.fromkeys(("tensor ring", "tensor_ring"), "#999999"),
    "memory copy": "#777777",
}
NEUTRAL = "#777777"
# For what is no method, such as the settings of a sweep.
OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#999999")
_MARKERS = "osD^vP*X"


def color_of(name: str, index: int = 0) -> str:
    """The color of a method, or of the method that a part of the name is; else one by index."""
    for part in (name, *re.split(", |=", name)):
        if part.lower() in COLORS:
            return COLORS[part.lower()]
    return OTHERS[index % len(OTHERS)]


def looks(names: list[str]) -> list[tuple[str, str]]:
    """Color and marker of each series; those of one color differ in their markers."""
    colors = [color_of(name, index) for index, name in enumerate(names)]
    return [(color, _MARKERS[colors[:i].count(color) % 8]) for i, color in enumerate(colors)]
