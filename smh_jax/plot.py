"""Figures of a run: python -m smh_jax.plot --workdir=runs/digits

Writes, into the run's folder or `--output`:

curves    loss, accuracy and learning rate by step
scales    each layer's learned scale and its start
matrix    the matrix into which all weights are tiled, with its layers outlined
spectra   singular values of the generated layers, and of that matrix
"""

from absl import flags
from etils import epath

from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the figures; WORKDIR/plots by default.")
FORMAT = flags.DEFINE_enum("format", "png", ["png", "pdf", "svg"], "Of the figures.")
DPI = flags.DEFINE_integer("dpi", 200, "Dots per inch of images.", lower_bound=1)


def main(_: list[str]) -> None:
    """Writes the figures and prints their names."""
    cli.require("matplotlib", "plot")
    from smh_jax.config.buckets import check_reachable
    from smh_jax.training import run_figures

    check_reachable(OUTPUT.value, "output")
    workdir = epath.Path(WORKDIR.value)
    output = epath.Path(OUTPUT.value) if OUTPUT.value else workdir / "plots"
    figures = run_figures.figures_of(workdir)
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        path = output / f"{name}.{FORMAT.value}"
        with path.open("wb") as file:
            figure.savefig(file, format=FORMAT.value, dpi=DPI.value)
        print(path)


if __name__ == "__main__":
    cli.run(main)
