"""Pictures of a run: python -m smh_jax.plot --workdir=runs/digits

Writes, into the run's folder or `--output`:

curves    loss, accuracy and learning rate by step
sizes     of an elastic run, accuracy against variables
scales    each layer's learned scale and its start
matrix    the matrix into which all weights are tiled, with its layers outlined
spectra   singular values of the generated layers, and of that matrix

With --html, all of them in one page, report.html, whose plots zoom and tables sort; it needs no
network.
"""

from absl import flags
from etils import epath

from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the pictures; WORKDIR/plots by default.")
FORMAT = flags.DEFINE_enum("format", "png", ["png", "pdf", "svg"], "Of the pictures.")
DPI = flags.DEFINE_integer("dpi", 300, "Dots per inch of png.", lower_bound=1)
HTML = flags.DEFINE_bool("html", False, "Write one page for browsers in place of the pictures.")


def main(_: list[str]) -> None:
    """Writes the pictures and prints their names."""
    cli.require("matplotlib", "plot")
    if HTML.value:
        cli.require("plotly", "plot")
    from smh_jax.config.buckets import check_reachable
    from smh_jax.training import run_figures

    check_reachable(OUTPUT.value, "output")
    workdir = epath.Path(WORKDIR.value)
    output = epath.Path(OUTPUT.value) if OUTPUT.value else workdir / "plots"
    pictures = run_figures.pictures_of(workdir)
    output.mkdir(parents=True, exist_ok=True)
    if HTML.value:
        from smh_jax.training.pictures import page

        sections = run_figures.sections_of(workdir, pictures)
        files = {"report.html": page.encode(f"Run {workdir.name}", sections).encode()}
    else:
        from smh_jax.training.pictures import drawing

        files = {
            f"{name}.{FORMAT.value}": drawing.encode(drawing.draw(shown), FORMAT.value, DPI.value)
            for name, shown in pictures.items()
        }
    for name, content in files.items():
        (output / name).write_bytes(content)
        print(output / name)


if __name__ == "__main__":
    cli.run(main)
