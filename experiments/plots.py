"""Pictures of experiments for paper: a panel per view."""

import pathlib

from experiments.experiment import Experiment
from experiments.panels import panel
from experiments.records import Record
from smh_jax.training.pictures import drawing


def save(experiment: Experiment, records: tuple[Record, ...], path: pathlib.Path) -> None:
    """Draws an experiment into `path` with the endings .png and .svg, if there is what to draw."""
    panels = [panel(experiment, view, records) for view in experiment.shown]
    panels = [each for each in panels if each is not None]
    if not panels:
        return
    figure = drawing.draw(panels, experiment.title)
    for kind in ("png", "svg"):
        path.with_name(f"{path.name}.{kind}").write_bytes(drawing.encode(figure, kind))
