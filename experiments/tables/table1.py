"""Table 1: SMH against unstructured hashing with 1, 2 and 10 hash functions at equal size."""

from experiments import paper
from experiments.claim import Claim
from experiments.experiment import Experiment
from experiments.labels import label
from experiments.row import Row
from experiments.tables import imagenet, reduced

METHODS = ("smh", "hash_1", "hash_2", "hash_10")
PAPER_SIZES = (5_300_000, 7_900_000)
SIZES = (reduced.TENTH, reduced.QUARTER)


def experiment(scale: str) -> Experiment:
    """The paper's EfficientNet-B2 at the sizes of B0 and B1; reduced: ResNet-8 at 10% and 25%."""
    return Experiment(
        name="table1",
        scale=scale,
        title="Table 1: structured against unstructured hashing",
        question="Is SMH better than 1, 2 and 10 hashes at equal size?",
        rows=_paper() if scale == "paper" else _reduced(),
        claims=_claims(scale),
    )


def _claims(scale: str) -> tuple[Claim, ...]:
    model, sizes = ("efficientnet_b2", PAPER_SIZES) if scale == "paper" else ("resnet8", SIZES)
    return tuple(
        Claim(
            f"At {size:,} variables SMH is better than {label(method)}",
            row=f"{model}-smh-{size}",
            than=f"{model}-{method}-{size}",
        )
        for size in sizes
        for method in METHODS[1:]
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
        for size in PAPER_SIZES
        for method in METHODS
    )


def _reduced() -> tuple[Row, ...]:
    return (
        reduced.row("dense"),
        *(
            reduced.row(
                method,
                size=size,
                paper=paper.find("table1", "efficientnet_b2", method, stands_for),
            )
            for size, stands_for in zip(SIZES, PAPER_SIZES, strict=True)
            for method in METHODS
        ),
    )
