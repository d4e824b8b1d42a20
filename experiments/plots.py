"""Pictures of experiments for paper: a panel per view."""

import pathlib

from experiments.experiment import Experiment
from experiments.panels import panel
from experiments.records import Record
from smh_jax.training.pictures import drawing


def save(experiment: Experiment, records: tuple[Record, ...], path: pathlib.Path) -> None:
    """Draws an experiment into `path` with the endings .png and .svg."""
    panels = filter(None, (panel(experiment, view, records) for view in experiment.shown))
    figure = drawing.draw(list(panels), experiment.title)
    for kind in ("png", "svg"):
        path.with_name(f"{path.name}.{kind}").write_bytes(drawing.encode(figure, kind))
