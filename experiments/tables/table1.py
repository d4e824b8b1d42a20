"""Table 1: SMH against unstructured hashing with 1, 2 and 10 hash functions at equal size."""

from experiments import paper
from experiments.experiment import Claim, Experiment
from experiments.labels import label
from experiments.row import Row
from experiments.tables import imagenet, reduced

KINDS = ("smh", "hash_1", "hash_2", "hash_10")
PAPER_SIZES = (5_300_000, 7_900_000)
# Sizes of the reduced scale, and those of the paper that they stand for.
SIZES = {reduced.TENTH: PAPER_SIZES[0], reduced.QUARTER: PAPER_SIZES[1]}


def experiment(scale: str) -> Experiment:
    """The paper's EfficientNet-B2 at the sizes of B0 and B1; reduced: ResNet-8 at 10% and 25%."""
    row, sizes = (_paper_row, PAPER_SIZES) if scale == "paper" else (_reduced_row, tuple(SIZES))
    return Experiment(
        name="table1",
        scale=scale,
        title="Table 1: structured against unstructured hashing",
        question="Is SMH better than 1, 2 and 10 hashes at equal size?",
        rows=(
            *(() if scale == "paper" else (reduced.row("dense"),)),
            *(row(kind, size) for size in sizes for kind in KINDS),
        ),
        claims=tuple(
            Claim(
                f"At {size:,} variables SMH is better than {label(kind)}",
                row=row("smh", size).name,
                than=row(kind, size).name,
            )
            for size in sizes
            for kind in KINDS[1:]
        ),
    )


def _paper_row(kind: str, size: int) -> Row:
    number = paper.find("table1", "efficientnet_b2", kind, size)
    note = "speed: training, all of a TPU v3 slice of topology 4x4"
    return imagenet.row("efficientnet_b2", kind, size=size, paper=number, note=note)


def _reduced_row(kind: str, size: int) -> Row:
    number = paper.find("table1", "efficientnet_b2", kind, SIZES[size])
    return reduced.row(kind, size=size, paper=number)
