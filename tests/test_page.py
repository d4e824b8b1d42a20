"""Reports for browsers: opened in a real one, they draw, sort and load nothing."""

import json
import re
import shutil
import subprocess

import pytest

from experiments import catalogue, records, render
from smh_jax import data
from smh_jax.training import run_figures
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.pictures import page
from smh_jax.training.pictures.panels import Level, Panel, Point, Series
from smh_jax.training.pictures.report import Section, Table
from tests.small import digits_config

CELLS = [["b", "7,498"], ["a", "88.1 ± 0.2"], ["c", ""], ["d", "500"]]
# What a reader does, and what is there afterwards, in place of the page.
PROBE = """<script>addEventListener("load", () => setTimeout(() => {
  const head = document.querySelectorAll("th")[1], seen = [];
  for (let i = 0; i < 2; i++) {
    head.click();
    seen.push([...head.closest("table").tBodies[0].rows].map((row) => row.cells[1].textContent));
  }
  const plots = [...document.querySelectorAll(".js-plotly-plot")];
  const found = {
    sorted: seen,
    plots: plots.length,
    drawn: plots.map((p) => p.querySelectorAll("path.point, path.js-line, image").length),
    buttons: [...plots[0].querySelectorAll(".modebar-btn")].map((b) => b.dataset.title),
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
  };
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
}, 3000));</script></body>"""


def a_panel(**changes) -> Panel:
    points = (Point(1.0, 2.0, 0.5, "<b>"), Point(2.0, 3.0))
    content = {"title": "t", "caption": "c", "x_label": "x", "y_label": "y"}
    return Panel(**{**content, "series": (Series("s", points, "#000000"),), **changes})


def test_a_page_is_one_file_with_the_library_once():
    pictures = (a_panel(), a_panel(categories=("one", "two", "three")))
    text = page.encode("A & B", [Section("<i>", "`x` **y**", Table(["", "n"], CELLS), ("z",))])
    assert "<h1>A &amp; B</h1>" in text
    assert "<h2>&lt;i&gt;</h2><p><code>x</code> <b>y</b></p>" in text.replace("\n", "")
    assert "plotly.js v" not in text
    levels = (Level(2.5, "level", "#ff0000", 0.25),)
    text = page.encode("A", [Section(pictures=(*pictures, a_panel(levels=levels)))])
    assert "<title>A</title>" in text
    assert re.search(r'"y0":2\.25,"y1":2\.75', text)
    text = page.encode("A", [Section(pictures=pictures)])
    assert len(re.findall(r"\* plotly\.js v", text)) == 1
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="', text.split("</script>")[-2])
    # The same report is the same file.
    assert page.encode("A", [Section(pictures=pictures)]) == text


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Opens a page in Chromium, without a network, and gives what `PROBE` finds in it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")

    def browse(text: str) -> dict:
        folder = tmp_path_factory.mktemp("page")
        (folder / "page.html").write_text(text.replace("</body>", PROBE))
        flags = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
            "--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}", "--dump-dom",
        )  # fmt: skip
        command = [chromium, *flags, f"file://{folder / 'page.html'}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert "CONSOLE" not in done.stderr, done.stderr
        return json.loads(re.search(r"<pre>(.*)</pre>", done.stdout)[1])

    return browse


@pytest.mark.slow
def test_tables_sort_and_plots_are_drawn(browse):
    sections = [Section(table=Table(["", "n"], CELLS), pictures=(a_panel(),))]
    found = browse(page.encode("t", sections))
    buttons = found.pop("buttons")
    assert "Zoom in" in buttons
    assert not any("Share" in button for button in buttons)
    assert found == {
        "sorted": [
            ["88.1 ± 0.2", "500", "7,498", ""],
            ["7,498", "500", "88.1 ± 0.2", ""],
        ],
        "plots": 1,
        # A line and two points.
        "drawn": [3],
        "loaded": [],
    }


@pytest.mark.slow
def test_the_report_of_an_experiment_and_of_a_run(browse, digits_dir, tmp_path):
    experiment = catalogue.load("shipping", "reduced")
    results = records.read(experiment, records.path_of(experiment, records.RESULTS, ".json"))
    text = render.html(experiment, results)
    assert results[0].runs[0]["command"] in text
    found = browse(text)
    assert found["plots"] == sum(view.kind != "errors" for view in experiment.views)
    assert all(found["drawn"])
    assert not found["loaded"]

    data.load(data.describe("digits", digits_dir), "test", digits_dir)
    train_and_evaluate(digits_config(digits_dir, epochs=0.2), tmp_path / "run")
    pictures = run_figures.pictures_of(tmp_path / "run")
    found = browse(page.encode("Run", run_figures.sections_of(tmp_path / "run", pictures)))
    assert found["plots"] == sum(map(len, pictures.values()))
    assert all(found["drawn"])
    assert not found["loaded"]


def test_a_missing_library_is_told_in_one_line(run_python, tmp_path):
    code = (
        "import importlib.util as u, runpy, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'plotly' else find(name, *rest)\n"
        f"sys.argv = ['plot', '--html', '--workdir={tmp_path}']\n"
        "runpy.run_module('smh_jax.plot', run_name='__main__')\n"
    )
    done = run_python("-c", code, check=False)
    assert done.stderr == "error: this needs plotly: pip install 'smh_jax[plot]'\n"
