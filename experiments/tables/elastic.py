"""One elastic run against models that are trained at each size alone; not in the paper.

About six and a half hours of training on one CPU core.
"""

import dataclasses

from experiments.experiment import Claim, Experiment, View
from experiments.row import Row
from experiments.tables.small_scale import DENSE_SIZES, REDUCED

DEPTHS = (8, 20)
SHARES = (0.03, 0.06, 0.125, 0.25, 0.5)
# Epochs of the elastic run by what it is compared at. It trains three sizes in a step, so that it
# costs three times as much as one model in as many steps, and there are five models of three.
EPOCHS = {"one model's cost": 1.0, "equal steps": 3.0, "the five models' cost": 5.0}
# Of ResNet-8 at three times the cost, on 10,000 held-out training images, one seed: the mean of the
# five sizes is 86.5% at 0.8, which is each size's own best rate, 87.1% at 1.6 and 86.6% at 3.2.
RATE = 1.6


def _sizes(depth: int) -> tuple[int, ...]:
    return tuple(round(share * DENSE_SIZES[depth]) for share in SHARES)


def _elastic(depth: int, cost: str) -> tuple[Row, ...]:
    """The run, and a row for each of its sizes."""
    *smaller, largest = _sizes(depth)
    run = REDUCED.row(
        "smh",
        depth=depth,
        size=largest,
        epochs=EPOCHS[cost],
        rate=RATE,
        name=f"elastic-resnet{depth}-{EPOCHS[cost]:g}",
        series=f"elastic, {cost}",
        overrides={"elastic.sizes": ",".join(map(str, smaller))},
    )
    return run, *(
        dataclasses.replace(run, name=f"{run.name}-{size}", size_of=run.name, elastic_size=size)
        for size in _sizes(depth)
    )


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    rows, claims, views = [], [], []
    for depth in DEPTHS:
        alone = [
            REDUCED.row("smh", depth=depth, size=size, series="each size alone")
            for size in _sizes(depth)
        ]
        rows += alone
        shown = [row.name for row in alone]
        for cost in EPOCHS:
            run, *sizes = _elastic(depth, cost)
            rows += [run, *sizes]
            shown += [row.name for row in sizes]
            if cost == "equal steps":
                continue
            claims += [
                Claim(
                    f"ResNet-{depth} at {share:.3g} of its variables: elastic at {cost} is within "
                    "0.3 points of that size alone",
                    *(of_run.name, of_alone.name),
                    margin=0.3,
                    paired=True,
                )
                for share, of_run, of_alone in zip(SHARES, sizes, alone, strict=True)
            ]
            claims.append(
                Claim(
                    f"ResNet-{depth} at the smallest size: elastic at {cost} is better than that "
                    "size alone",
                    *(sizes[0].name, alone[0].name),
                    paired=True,
                )
            )
        views.append(View("curves", f"ResNet-{depth}", tuple(shown)))
    return Experiment(
        "elastic",
        scale,
        title="One run for every size",
        question=(
            "How close does each size of one elastic run come to a model that is trained at that "
            "size alone? Fashion-MNIST at 14 x 14 pixels; 10,000 test images: one standard error "
            "is 0.3 points. A model alone has three epochs; the elastic run has one, three and "
            "five, of three sizes per step."
        ),
        rows=tuple(rows),
        claims=tuple(claims),
        views=(*views, View("differences", "Differences of runs with the same seed")),
    )
