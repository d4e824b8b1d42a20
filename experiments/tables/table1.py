"""Table 1: SMH against unstructured hashing with 1, 2 and 10 hash functions at equal size."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

METHODS = ("smh", "hash_1", "hash_2", "hash_10")


def experiment(scale: str) -> Experiment:
    """The paper's EfficientNet-B2 at the sizes of B0 and B1; reduced: ResNet-8 at 10% and 25%."""
    return Experiment(
        name="table1",
        scale=scale,
        title="Table 1: structured against unstructured hashing",
        question="Is SMH better than 1, 2 and 10 hashes at equal size?",
        rows=_paper() if scale == "paper" else _reduced(),
    )


def _paper() -> tuple[Row, ...]:
    return tuple(
        imagenet.row(
            "efficientnet_b2",
            method,
            size=size,
            paper=paper.find("table1", "efficientnet_b2", method, size),
            note="speed: training, all of a TPU v3 slice of topology 4x4",
        )
        for size in (5_300_000, 7_900_000)
        for method in METHODS
    )


def _reduced() -> tuple[Row, ...]:
    return (
        reduced.row("dense", "dense"),
        *(
            reduced.row(
                f"{method}-{size}",
                method,
                size=size,
                paper=paper.find("table1", "efficientnet_b2", method, stands_for),
            )
            for size, stands_for in ((reduced.TENTH, 5_300_000), (reduced.QUARTER, 7_900_000))
            for method in METHODS
        ),
    )
