"""Several tasks in one pool against models of their own of the same total size; not in the paper.

About two hours of training on one CPU core.
"""

import dataclasses

from experiments.cost import NUM_EXAMPLES
from experiments.experiment import Claim, Experiment, View
from experiments.row import Row
from experiments.tables.small_scale import REDUCED

# Of each task, alone or in the mean of several.
SIZE = REDUCED.tenth
TRANSFORMS = ("none", "inverted", "rotated", "permuted")
# What differs from the recipe, which is Fashion-MNIST's.
DATASETS = {"fashion_mnist": {}, "digits": {"data.name": "digits", "data.image_size": 8}}
# Tasks that are trained together: both datasets, in more and more transforms.
COUNTS = {2: 1, 4: 2, 8: 4}


def _tasks(num_transforms: int) -> dict[str, dict[str, str | int]]:
    """What differs from the recipe in each task, by name."""
    return {
        dataset if transform == "none" else f"{dataset}_{transform}": {
            **changes,
            **({} if transform == "none" else {"data.transform": transform}),
        }
        for transform in TRANSFORMS[:num_transforms]
        for dataset, changes in DATASETS.items()
    }


def _alone(task: str, changes: dict[str, str | int]) -> Row:
    """A task by itself, in as many steps as together with the others."""
    examples = NUM_EXAMPLES[changes.get("data.name", "fashion_mnist")]
    epochs = round(REDUCED.epochs * NUM_EXAMPLES["fashion_mnist"] / examples, 2)
    return REDUCED.row(
        "smh",
        size=SIZE,
        epochs=epochs,
        name=f"alone-{task}",
        series="a model of its own",
        overrides={**changes, "eval_every_epochs": epochs},
    )


def _together(count: int) -> tuple[Row, ...]:
    """The run of so many tasks, and a row for each."""
    tasks = _tasks(COUNTS[count])
    text = "; ".join(
        f"{task}: {', '.join(f'{field}={value}' for field, value in changes.items())}".rstrip(": ")
        for task, changes in tasks.items()
    )
    run = REDUCED.row(
        "smh",
        size=count * SIZE,
        name=f"shared-{count}",
        series=f"one pool of {count}",
        overrides={"tasks": text},
    )
    return run, *(
        dataclasses.replace(run, name=f"{run.name}-{task}", size_of=run.name, task=task)
        for task in tasks
    )


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    alone = {task: _alone(task, changes) for task, changes in _tasks(len(TRANSFORMS)).items()}
    rows, claims, views = list(alone.values()), [], []
    for count in COUNTS:
        run, *of_tasks = _together(count)
        rows += [run, *of_tasks]
        claims += [
            Claim(
                f"{row.task}, in a pool of {count} tasks: within 0.3 points of a model of its own",
                *(row.name, alone[row.task].name),
                margin=0.3,
                paired=True,
            )
            for row in of_tasks
        ]
    rows = [
        dataclasses.replace(row, group=row.task or row.name.removeprefix("alone-")) for row in rows
    ]
    shown = tuple(row.name for row in rows if row.task or row.name.startswith("alone-"))
    views = (View("dots", "Accuracy", shown, axis="task"),)
    return Experiment(
        "shared",
        scale,
        title="Several tasks in one pool",
        question=(
            "Are the networks of two, four and eight tasks better from one pool or from pools of "
            "their own, at the same total size and the same number of steps? ResNet-8 with 7,500 "
            "variables for each task; Fashion-MNIST at 14 x 14 pixels (10,000 test images: one "
            "standard error is 0.3 points) and digits (360 test images: about 1 point), and copies "
            "of both that are inverted, rotated and permuted."
        ),
        rows=tuple(rows),
        claims=tuple(claims),
        views=(*views, View("differences", "Differences of runs with the same seed")),
    )
