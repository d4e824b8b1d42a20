"""Table 1: SMH against unstructured hashing with 1, 2 and 10 hash functions at equal size."""

from experiments import paper
from experiments.experiment import Claim, Experiment
from experiments.tables import imagenet
from experiments.tables.kinds import label
from experiments.tables.small_scale import SMALL_SCALES

KINDS = ("smh", "hash_1", "hash_2", "hash_10")
PAPER_SIZES = (5_300_000, 7_900_000)


def experiment(scale: str) -> Experiment:
    """The paper's EfficientNet-B2 at the sizes of B0 and B1; else a ResNet at 10% and 25%."""
    model, note = "efficientnet_b2", "speed: training, all of a TPU v3 slice of topology 4x4"
    if scale == "paper":
        sizes, dense = PAPER_SIZES, ()
        rows = {
            (kind, size): imagenet.row(model, kind, size=size, table="table1", note=note)
            for size in sizes
            for kind in KINDS
        }
    else:
        small = SMALL_SCALES[scale]
        sizes, dense = (small.tenth, small.quarter), (small.row("dense"),)
        rows = {
            (kind, size): small.row(kind, size=size, paper=paper.find("table1", model, kind, at))
            for size, at in zip(sizes, PAPER_SIZES, strict=True)
            for kind in KINDS
        }
    return Experiment(
        "table1",
        scale,
        title="Table 1: structured against unstructured hashing",
        question="Is SMH better than 1, 2 and 10 hashes at equal size?",
        rows=(*dense, *rows.values()),
        claims=tuple(
            Claim(
                f"At {size:,} variables SMH is better than {label(kind)}",
                row=rows["smh", size].name,
                than=row.name,
            )
            for (kind, size), row in rows.items()
            if kind != "smh"
        ),
    )
