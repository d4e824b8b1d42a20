"""One color per method, the same in every picture; apart for every kind of eyes.

The eight of Okabe and Ito (https://jfly.uni-koeln.de/color/), and two tints of them.
"""

COLORS = {
    "dense": "#000000",
    "smh": "#0072b2",
    "smh_fixed_scale": "#6baed6",
    "smh_like_for_like": "#003a5c",
    "hash_1": "#f0c000",
    "hash_2": "#e69f00",
    "hash_10": "#d55e00",
    "width_multiplier": "#009e73",
    "width_and_resolution": "#66c2a5",
    "low_rank": "#cc79a7",
    "tucker": "#8c564b",
    "tensor_train": "#56b4e9",
    "tensor_ring": "#999999",
}
# For what is no method, such as the settings of a sweep.
_OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#999999")


def color_of(series: str, index: int = 0) -> str:
    """The color of a method; of another series the one of its index."""
    return COLORS.get(series, _OTHERS[index % len(_OTHERS)])
