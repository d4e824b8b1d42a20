"""How series are called in tables and pictures."""

LABELS = {
    "dense": "uncompressed",
    "smh": "SMH",
    "smh_like_for_like": "SMH, convolutions only, Kronecker",
    "smh_fixed_scale": "SMH, fixed scale",
    "hash_1": "1 hash",
    "hash_2": "2 hashes",
    "hash_10": "10 hashes",
    "width_multiplier": "width multiplier",
    "width_and_resolution": "width multiplier + resolution",
    "low_rank": "low rank",
    "tucker": "Tucker",
    "tensor_train": "tensor train",
    "tensor_ring": "tensor ring",
}


def label(series: str) -> str:
    """The name of a series for readers."""
    return LABELS.get(series, series)
