"""The rows of the experiment are runs that exist; its report has their numbers."""

import pathlib

import numpy as np
import pytest

from experiments.shipping import report, rows


def test_every_row_comes_after_what_it_needs():
    made, before = rows.rows(), set()
    for name, row in made.items():
        needed = {str(v)[1:] for v in row.overrides.values() if str(v).startswith("@")}
        needed |= {row.convert_from} - {None}
        assert needed <= before, name
        before.add(name)
    assert {name.format(s) for name in report.SETTINGS.values() for s in rows.SEEDS} <= before


def test_configs_of_rows():
    workdir = pathlib.Path("/runs")
    made = rows.rows()
    tuned = rows.config(made["fashion_ftdistill25_e2.5_s1"], workdir)
    assert tuned.init_from == "/runs/fashion_converted_s1"
    assert tuned.distillation.teacher == "/runs/fashion_dense_s1"
    assert (tuned.seed, tuned.epochs, tuned.method.target_size) == (1, 2.5, rows.TARGET_SIZE)
    held_out = rows.config(made["heldout_smh25_e5_r1.6"], workdir)
    assert held_out.optimizer.learning_rate == 1.6
    # Nothing is chosen on the test set, nor on what was trained on.
    assert (held_out.data.train_split, held_out.data.eval_split) == ("train[:90%]", "train[90%:]")
    rounded = rows.config(made["digits_smh10_int4"], workdir)
    assert (rounded.pool_precision, rounded.data.name) == ("int4", "digits")
    assert rounded.init_from == "/runs/digits_smh10"


@pytest.fixture
def content():
    """Numbers as `measure` gives them, of which every accuracy is another one."""
    random = np.random.default_rng(0)
    made = {"command": "", "cores": 2, "hours": 1.0, "rows": {}, "exports": {}}
    for name in rows.rows():
        made["rows"][name] = {"test_accuracy": random.uniform(0.8, 0.9), "steps": 100}
        if "converted" in name:
            made["rows"][name]["relative_errors"] = {"conv/kernel": 0.75}
    for name in rows.precision_rows():
        made["exports"][name] = {
            precision: {"bytes": 1000 * i, "accuracy": random.uniform(0.8, 0.9)}
            for i, precision in enumerate(report.PRECISIONS)
        }
    return made


def test_the_report_has_all_numbers(content):
    markdown = report.text(content)
    for name in (name for name in content["rows"] if name.startswith("fashion_ft25")):
        assert f"{100 * content['rows'][name]['test_accuracy']:.2f}" in markdown
    for exports in content["exports"].values():
        for found in exports.values():
            assert f"{found['accuracy']:.2%} ({found['bytes']:,} B)" in markdown
    each, mean, error = report.gain(content, "from scratch, distilled", "from scratch")
    by_hand = [
        100
        * (
            content["rows"][f"fashion_distill25_e5_s{s}"]["test_accuracy"]
            - content["rows"][f"fashion_smh25_e5_s{s}"]["test_accuracy"]
        )
        for s in range(3)
    ]
    np.testing.assert_allclose(each, by_hand)
    assert mean == pytest.approx(sum(by_hand) / 3)
    assert error == pytest.approx(np.std(by_hand, ddof=1) / 3**0.5)


def test_the_picture_has_three_panels(content, tmp_path):
    figure = report.picture(content)
    figure.savefig(tmp_path / "picture.svg")
    assert len(figure.axes) == 3
    bars = [patch.get_height() for patch in figure.axes[1].patches]
    assert bars[0] == pytest.approx(
        report.gain(content, "from scratch, distilled", "from scratch")[1]
    )
