"""Pictures: what they show is what the run has; none needs a display."""

import json

import jax
import numpy as np
import pytest
from matplotlib.patches import Polygon
from matplotlib.path import Path

from smh_jax import Manifest, methods, models
from smh_jax.training import figures, run_figures, trained
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.pictures import drawing
from smh_jax.training.pictures.panels import Panel, Point, Series, log_ticks
from tests.small import TwoLayers, digits_config
from tests.test_methods import synthetic_manifest


@pytest.mark.parametrize("side", [5, 7])
def test_outlines_hold_their_entries_and_no_others(side):
    for first in range(side * side):
        for last in range(first + 1, side * side + 1):
            polygons = figures.outline(first, last, side)
            columns, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
            centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
            inside = sum(Path([*p, p[0]]).contains_points(centres).astype(int) for p in polygons)
            expected = np.zeros(side * side, int)
            expected[first:last] = 1
            np.testing.assert_array_equal(inside, expected, err_msg=f"{first} to {last}")


def test_ranks_of_layers_and_of_the_tiled_matrix():
    """Every layer has full rank, the matrix of all of them has rank M."""
    model = models.create("cifar_resnet8", num_classes=10, width_multiplier=0.5)
    manifest = Manifest.from_model(model, (1, 8, 8, 1))
    method = methods.create("smh", manifest, target_size=3000)
    (rows, columns), rank = run_figures.matrix_of(method, manifest.num_hashed)
    assert rank == method.num_hash_pairs
    weights = [np.asarray(w) for w in method.generate(method.init_pools(jax.random.key(0)))]
    layers, tiled = figures.singular_values(manifest.hashed, weights, (rows, columns), rank)
    names = [series.name for series in layers.series]
    assert "stage3_block1/conv2: rank 32 of 32" in names
    assert len(names) == sum(len(t.shape) > 1 for t in manifest.hashed)
    values = [point.y for point in tiled.series[0].points]
    assert len(values) == min(rows, columns)
    assert rank < len(values) // 2
    # What is left beyond M comes from the entries to spare, which are drawn as 0.
    assert values[rank - 1] > 10 * values[rank + 1]


def test_methods_without_a_matrix_are_tiled_into_a_square():
    manifest = synthetic_manifest([500, 1, 130])
    for name, options in (("multi_hash", {}), ("smh", {"blocks": 2}), ("smh", {"index": "cyclic"})):
        extra = {"matrix_size": 20} if options.get("index") else {}
        method = methods.create(name, manifest, target_size=300, **options, **extra)
        assert run_figures.matrix_of(method, 631) == ((26, 26), None)


def test_the_matrix_has_the_weights_in_their_places():
    tensors = synthetic_manifest([10, 7, 3]).hashed
    weights = [np.full(t.size, value) for t, value in zip(tensors, (2.0, -0.5, 0.0), strict=True)]
    layers, matrix = figures.tiled_matrix(tensors, weights, (5, 4))
    expected = np.repeat([1.0, -1.0, 0.0], [10, 7, 3]).reshape(5, 4)
    np.testing.assert_array_equal(matrix.values, expected)
    np.testing.assert_array_equal(layers.values.ravel(), np.repeat([0, 1, 2], [10, 7, 3]))
    axes = drawing.draw([layers, matrix]).subfigs[1].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert sum(isinstance(patch, Polygon) for patch in axes.patches) == 3


def test_scales_alongside_their_start():
    tensors = synthetic_manifest([10, 7]).hashed
    starts, learned = [np.ones(1), np.zeros(1)], [np.array([1.5]), np.array([-0.2])]
    panel = figures.learned_scales(tensors, starts, learned, cancelled=["w1"])
    start, end = ([(point.x, point.y) for point in s.points] for s in panel.series)
    assert start == [(0, 1.0), (1, 0.0)]
    assert end == [(0, 1.5), (1, -0.2)]
    assert panel.categories == ("w0", "w1 *")
    assert "batch norm, which cancels" in panel.caption


def test_scales_that_batch_norm_follows_are_cancelled():
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1))
    assert [name.split("/")[0] for name in run_figures.cancelled_scales(manifest)] == ["z_conv"]


def test_curves_have_every_row():
    rows = [
        {"step": 10, "train_loss": 2.0, "train_accuracy": 0.5, "learning_rate": 0.1},
        {"step": 20, "train_loss": 1.0, "train_accuracy": 0.6, "learning_rate": 0.2,
         "test_loss": 1.5, "test_accuracy": 0.55},
    ]  # fmt: skip
    loss, accuracy, rate = figures.training_curves(rows)
    points = [[(point.x, point.y) for point in series.points] for series in loss.series]
    assert points == [[(10, 2.0), (20, 1.0)], [(20, 1.5)]]
    assert [point.y for point in accuracy.series[0].points] == pytest.approx([50, 60])
    assert [point.y for point in rate.series[0].points] == [0.1, 0.2]


def test_what_is_drawn_is_what_the_panel_has():
    """Points side by side with their bars, the list of categories from the top, no bar from 0."""
    points = tuple(Point(x, 80.0 + x, 0.5) for x in (0, 1))
    series = (Series("a", points, "#000000"), Series("b", points, "#0072b2", line=""))
    panel = Panel("t", "c", "", "accuracy (%)", series, categories=("one", "two"), dodge=True)
    axes = drawing.draw([panel]).subfigs[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert axes.get_ylim() == (1.5, -0.5)
    assert axes.get_xlim()[0] > 70
    drawn = [container.lines[0].get_data() for container in axes.containers]
    assert [list(values) for values, _ in drawn] == [[80, 81], [80, 81]]
    assert [list(places) for _, places in drawn] == [panel.positions(0), panel.positions(1)]
    assert panel.positions(0)[0] < 0 < panel.positions(1)[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_ticks_are_values_that_are_few_and_apart_or_round_numbers():
    assert log_ticks([7_200, 7_498, 18_750]) == ((7_498, "7.5k"), (18_750, "18.8k"))
    spread = [4_010, 5_000, 6_461, 8_672, 12_179, 21_799, 302_782]
    assert [text for _, text in log_ticks(spread)] == ["5k", "10k", "20k", "50k", "100k", "200k"]


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train_and_evaluate(digits_config(digits_dir, epochs=0.2), workdir)
    return workdir


@pytest.mark.slow
def test_the_command(run, run_python, tmp_path):
    output = tmp_path / "pictures"
    done = run_python(
        *("-m", "smh_jax.plot", f"--workdir={run}", f"--output={output}", "--format=svg")
    )
    names = {"curves", "scales", "matrix", "spectra"}
    assert {path.stem for path in output.iterdir()} == names
    assert set(done.stdout.split()) == {str(output / f"{name}.svg") for name in names}
    assert all(path.read_text().startswith("<?xml") for path in output.iterdir())


@pytest.mark.slow
def test_scales_start_where_the_run_began(run, digits_dir, tmp_path):
    changed = digits_config(
        digits_dir, epochs=0.04, init_from=str(run), optimizer__learning_rate=1e-30,
        optimizer__schedule="constant",
    )  # fmt: skip
    train_and_evaluate(changed, tmp_path)
    first, second = trained.read(run), trained.read(tmp_path)
    np.testing.assert_array_equal(
        np.concatenate(run_figures.starting_scales(second)), first.variables["scales"]
    )
    random = np.concatenate(run_figures.starting_scales(first))
    np.testing.assert_array_equal(
        random, [float(t.initial.stddev > 0) for t in first.run.method.manifest.hashed]
    )
    assert np.any(random != first.variables["scales"])


def test_a_folder_without_a_run(run_python, tmp_path):
    done = run_python("-m", "smh_jax.plot", f"--workdir={tmp_path}", check=False)
    assert done.returncode == 1
    assert "holds no run" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(list(tmp_path.iterdir())) == "[]"


def test_models_of_another_kind():
    """Dense runs are tiled as they would be hashed; tensors without scales are no trouble."""
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1))
    dense = methods.create("dense", manifest)
    assert not dense.manifest.hashed
    assert run_figures.matrix_of(dense, manifest.num_hashed) == ((20, 20), None)
