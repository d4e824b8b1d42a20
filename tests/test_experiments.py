"""Rows, runner, sweeps and reports of the experiments."""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow_datasets as tfds

from experiments import catalogue, cost, panels, paper, plots, records, render, runner, sweep
from experiments.answers import answer, difference
from experiments.executors import local
from experiments.executors.process import INTERRUPTED, Outcome, outcome
from experiments.experiment import Claim, Experiment, View
from experiments.job import CorruptResultError, Job, jobs, root, split
from experiments.row import Row, TpuSlice
from experiments.tables import adapters, small_scale, transformers
from experiments.tables.small_scale import REDUCED, STANDARD
from smh_jax import config as configs
from smh_jax import data, methods, models
from smh_jax.config import tasks as task_configs
from smh_jax.config.config_files import read_config
from smh_jax.manifest import Manifest
from smh_jax.training import tasks
from smh_jax.training.pictures import panels as figure_panels
from smh_jax.training.run import Run
from tests.conftest import ROOT

SWEEP = """
config = "configs/digits.py:depth=8,target_size=1900"
seeds = [0]
[grid]
model.options.width_multiplier = [0.25]
epochs = [0.2]
data.data_dir = ["{data_dir}"]
optimizer.learning_rate = [0.1, {second_rate}]
"""


def a_row(**changes) -> Row:
    content = {"name": "a", "series": "smh", "group": "g", "config": "configs/digits.py"}
    return Row(**{**content, **changes})


def finish(job: Job, **changes) -> None:
    """Writes what a finished run leaves behind."""
    job.workdir.mkdir(parents=True)
    (job.workdir / "config.json").write_text(json.dumps(configs.to_json_dict(job.config)))
    result = {
        "test_accuracy": 0.5 + 0.1 * job.seed, "test_loss": 1.0, "test_examples": 10,
        "num_variables": 100, "num_weights": 1000, "steps": 5, "epochs": 1.0, "seed": job.seed,
        "train_seconds": 7.0, "examples_per_second": 9.0, "devices": "1 cpu", "versions": {},
    }  # fmt: skip
    job.result_path.write_text(json.dumps({**result, **changes}))


def an_experiment(*rows: Row, **fields) -> Experiment:
    return Experiment("x", "sweep", "t", "q", rows, **fields)


class TestRow:
    def test_overrides_and_seed_reach_the_config_and_the_command(self):
        row = a_row(overrides={"optimizer.learning_rate": 0.07, "method.options.blocks": 4})
        config = row.read_config(seed=3)
        assert config.optimizer.learning_rate == 0.07
        assert config.method.options["blocks"] == 4
        assert config.seed == 3
        assert a_row().read_config(seed=3).optimizer.learning_rate != 0.07
        python, dash_m, module, config_flag, *overrides, workdir = row.command(3, "runs")
        assert (python, dash_m, module, workdir) == (
            *("python", "-m", "smh_jax.main", "--workdir=runs/a/seed3"),
        )
        assert read_config(" ".join([config_flag.removeprefix("--config="), *overrides])) == config

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"config": "configs/none.py"}, r"No such file or directory: 'configs/none\.py'"),
            ({"config": "configs/digits.py:dept=8"}, "did you mean depth"),
            ({"overrides": {"optimizer.rate": 1.0}}, "the config has no field 'rate'"),
            ({"overrides": {"epochs": "many"}}, "epochs=many: could not convert"),
        ],
    )
    def test_mistakes_name_the_row(self, changes, message):
        with pytest.raises(ValueError, match=message) as error:
            a_row(**changes).read_config(0)
        assert str(error.value).startswith("row a: ")

    def test_other_rows_are_their_runs_of_the_same_seed(self):
        changes = {"init_from": "@converted", "distillation.teacher": "@dense"}
        row = a_row(overrides=changes)
        assert row.needs == ("converted", "dense")
        config = row.read_config(2, "/runs")
        assert config.init_from == "/runs/converted/seed2"
        assert config.distillation.teacher == "/runs/dense/seed2"
        converted = a_row(name="converted", convert_from="dense")
        assert converted.needs == ("dense",)
        assert converted.command(2, "/runs")[2:] == (
            *("smh_jax.convert", "--workdir=/runs/dense/seed2", "--target_size=67000"),
            "--output=/runs/converted/seed2",
        )


@pytest.mark.parametrize(
    ("name", "scale"),
    [(name, scale) for scale in catalogue.SCALES for name in catalogue.names(scale)],
)
def test_every_row_resolves(name, scale):
    experiment = catalogue.load(name, scale)
    assert experiment.name == name
    assert experiment.scale == scale
    for row in experiment.rows:
        # What one process can use of a machine; a slice of several hosts is asked for as such.
        assert row.resources.get("TPU", 0) <= 4
        config = row.read_config(0)
        size = row.paper.size if row.paper else None
        if scale == "paper" and size and config.method.target_size:
            # The like-for-like rows of Figure 6 train 31 scales that the paper does not count.
            beyond = 31 if row.series == "smh_like_for_like" else 0
            assert config.method.target_size == size + beyond


def test_nothing_is_chosen_on_the_test_set():
    splits = set()
    for row in (r for s in ("reduced", "standard") for r in catalogue.load("tuning", s).rows):
        splits.add((row.read_config(0).data.train_split, row.read_config(0).data.eval_split))
    assert splits == {("train[:50000]", "train[50000:]")}
    experiment = catalogue.load("shipping", "reduced")
    (rates,) = (view.rows for view in experiment.views if view.kind == "rates")
    for row in experiment.rows:
        if row.name in rates:
            data_config = row.read_config(0).data
            assert data_config.train_split == "train[:90%]"
            assert data_config.eval_split == "train[90%:]"
            assert all("held_out" in name for name in row.needs)


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (("a", "a"), {}, "several rows are named a"),
        (("a",), {"claims": (Claim("a is best", "a", "b"),)}, "a claim is about 'b', which is no"),
        (("a",), {"views": (View("dots", rows=("b",)),)}, "a view shows 'b', which is no row"),
    ],
)
def test_an_experiment_is_about_its_rows(rows, fields, message):
    with pytest.raises(ValueError, match=message):
        an_experiment(*(a_row(name=name) for name in rows), **fields)


def test_rows_that_are_needed_exist_and_need_no_circle():
    with pytest.raises(ValueError, match="row 'a' needs 'b', which is no row"):
        an_experiment(a_row(overrides={"init_from": "@b"}))
    rows = [a_row(name=name, overrides={"init_from": f"@{need}"}) for name, need in ("ab", "ba")]
    with pytest.raises(ValueError, match=r"need each other in a circle: [ab] -> [ab] -> [ab]"):
        an_experiment(*rows)
    with pytest.raises(ValueError, match="--scale=paper must be 'reduced' for shipping"):
        catalogue.load("shipping", "paper")


@pytest.mark.parametrize("scale", catalogue.SCALES)
def test_rows_of_one_name_in_several_tables_are_one_run(scale, tmp_path):
    """They share a folder, so they must train the same."""
    commands = collections.defaultdict(list)
    for name in catalogue.names(scale):
        for job in jobs(catalogue.load(name, scale), tmp_path, (0,)):
            commands[job.workdir].append(job.command())
    assert all(len(set(same)) == 1 for same in commands.values())
    assert sum(len(same) > 1 for same in commands.values()) > 3
    # What trains the same has one name.
    different = {tuple(part for part in same[0][:-1]) for same in commands.values()}
    assert len(different) == len(commands)


@pytest.mark.parametrize(
    ("changes", "margin", "expected"),
    [
        # Seeds 0 and 1 of `finish` are 50 and 60 percent: 55 with a standard error of 5.
        ([0.0, 0.2], 0.0, "**yes** (75.00 against 55.00, +20.00 ± 7.07)"),
        ([0.0, -0.2], 0.0, "**no** (35.00 against 55.00, -20.00 ± 7.07)"),
        ([0.0, -0.2], 21.0, "**yes**, but within the noise (35.00 against 55.00, -20.00 ± 7.07)"),
        ([0.0, 0.1], 0.0, "**yes**, but within the noise (65.00 against 55.00, +10.00 ± 7.07)"),
    ],
)
def test_answers(changes, margin, expected, tmp_path):
    rows = tuple(a_row(name=name, seeds=(0, 1)) for name in ("other", "ours"))
    claim = Claim("Ours is better", "ours", "other", margin)
    experiment = an_experiment(*rows, claims=(claim,))
    assert answer(claim, records.collect(experiment, tmp_path)).endswith(": not trained yet.")
    for job in jobs(experiment, tmp_path, None):
        better = changes[job.row.name == "ours"]
        finish(job, test_accuracy=0.5 + 0.1 * job.seed + better)
        if job.name == "ours/seed0":
            single = answer(claim, records.collect(experiment, tmp_path))
            assert "of a single seed" in single
    found = records.collect(experiment, tmp_path)
    assert answer(claim, found) == f"Ours is better: {expected}."
    assert f"- Ours is better: {expected}." in render.page(experiment, found)


def test_paired_differences_are_taken_seed_by_seed(tmp_path):
    rows = tuple(a_row(name=name, seeds=(0, 1, 2)) for name in ("other", "ours"))
    claim = Claim("Ours is better", "ours", "other", paired=True)
    experiment = an_experiment(*rows, claims=(claim,))
    gains = {0: 0.03, 1: 0.01}
    for job in jobs(experiment, tmp_path, None):
        # Seeds differ by far more than rows; of seed 2 only one of the two is trained.
        if job.seed < 2 or job.row.name == "other":
            gain = gains[job.seed] if job.row.name == "ours" else 0.0
            finish(job, test_accuracy=0.3 + 0.2 * job.seed + gain)
    found = difference(claim, records.collect(experiment, tmp_path))
    assert found == pytest.approx((2.0, 1.0))


@pytest.mark.parametrize("name", ["table1", "table3", "figure6", "figure7", "tuning", "shipping"])
def test_the_committed_results_give_the_committed_page(name):
    experiment, results = committed(name)
    written = records.path_of(experiment, records.RESULTS, ".md").read_text()
    assert render.page(experiment, results) == written
    assert all(result.runs for result in results)


def committed(name: str) -> tuple[Experiment, tuple[records.Record, ...]]:
    experiment = catalogue.load(name, "reduced")
    path = records.path_of(experiment, records.RESULTS, ".json")
    return experiment, records.read(experiment, path)


def test_every_view_has_a_panel_and_differences_are_shown_seed_by_seed():
    experiment, results = committed("shipping")
    shown = {view.title: panels.panel(experiment, view, results) for view in experiment.shown}
    assert [title for title, drawn in shown.items() if drawn is None] == [
        view.title for view in experiment.views if view.kind == "errors"
    ]
    differences = shown["Differences of runs with the same seed"]
    seeds, means = differences.series
    assert len(seeds.points) == 3 * len(experiment.claims)
    assert [(point.y, point.error) for point in means.points] == [
        pytest.approx(difference(claim, results)) for claim in experiment.claims
    ]
    assert "standard error" in differences.caption


def test_curves_are_drawn_at_shares_of_the_dense_model_side_by_side():
    experiment, results = committed("figure6")
    panel = panels.panel(experiment, *experiment.shown, results)
    assert [text for _, text in panel.ticks] == ["10%\n7.5k", "25%\n18.7k", "50%\n37.5k"]
    assert panel.caption == (
        "ResNet-8 on Fashion-MNIST at 14 x 14 pixels, 3 epochs. Mean of 3 seeds; bars: ± 1 "
        "standard deviation over seeds."
    )
    first = [panel.positions(index)[0] for index in range(len(panel.series))]
    assert len(set(first)) == len(first)
    assert all(tick[0] == pytest.approx(x, rel=0.08) for x in first for tick in panel.ticks[:1])
    means = {record.mean for record in results}
    drawn = {point.y for series in panel.series for point in series.points}
    assert drawn | {level.y for level in panel.levels} == means


def test_numbers_of_the_paper_are_hollow_and_say_so(tmp_path):
    number = paper.find("figure6", "cifar_resnet32", "smh", 46_662)
    experiment = Experiment("x", "paper", "t", "q", (a_row(paper=number),))
    (job,) = jobs(experiment, tmp_path, None)
    finish(job)
    found = records.collect(experiment, tmp_path)
    ours, theirs = panels.panel(experiment, *experiment.shown, found).series
    assert (theirs.name, theirs.filled, theirs.color) == ("SMH (paper)", False, ours.color)
    assert [(point.x, point.y) for point in theirs.points] == [(46_662, 90.15)]


def test_methods_of_one_picture_differ_in_color_or_marker():
    for name in ("figure6", "table1", "tuning", "frontier"):
        experiment, results = committed(name)
        for view in experiment.shown:
            panel = panels.panel(experiment, view, results)
            looks = [(series.color, series.marker) for series in panel.series]
            assert len(set(looks)) == len(looks)


def test_the_frontier_is_the_best_of_all_files_as_small():
    experiment, results = committed("frontier")
    *files, frontier = panels.panel(experiment, *experiment.shown, results).series
    points = [(point.x, point.y) for series in files for point in series.points]
    for x, y in points:
        best = max(theirs for size, theirs in points if size <= x)
        assert y <= best
        assert max(point.y for point in frontier.points if point.x <= x) == best


def test_numbers_of_the_paper():
    number = paper.find("table1", "efficientnet_b2", "smh", 5_300_000)
    assert (number.accuracy, number.speed) == (77.4, 6060)
    assert len(paper.sizes("figure6", "cifar_resnet32", "smh")) == 13
    with pytest.raises(KeyError, match="5300001"):
        paper.find("table1", "efficientnet_b2", "smh", 5_300_001)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/sweeps").glob("*.toml")), ids=str)
def test_every_ablation_resolves(path):
    rows = sweep.load(str(path)).rows
    assert len({json.dumps(configs.to_json_dict(row.read_config(0))) for row in rows}) == len(rows)


class TestSweep:
    def load(self, tmp_path, text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return sweep.load(str(path))

    def test_a_grid_takes_all_combinations_and_a_list_single_settings(self, tmp_path):
        experiment = self.load(
            tmp_path,
            """
            config = "configs/digits.py"
            [grid]
            method.options.blocks = [1, 4]
            optimizer.learning_rate = [0.1, 0.2]
            [[list]]
            seed = 7
            "method.options.layout" = "kronecker"
            """,
        )
        assert [row.name for row in experiment.rows] == [
            "blocks=1,learning_rate=0.1", "blocks=1,learning_rate=0.2",
            "blocks=4,learning_rate=0.1", "blocks=4,learning_rate=0.2",
            "seed=7,layout=kronecker",
        ]  # fmt: skip
        assert experiment.rows[3].read_config(0).method.options["blocks"] == 4
        # Settings of different fields are a list, each told by what varies.
        assert experiment.views[0].axis == "setting"
        assert [row.group for row in experiment.rows][1::3] == [
            "blocks=1, learning rate=0.2", "seed=7, layout=kronecker",
        ]  # fmt: skip

    def test_rows_are_labelled_by_what_varies_and_drawn_along_numbers(self, tmp_path):
        experiment = self.load(
            tmp_path,
            """
            config = "configs/digits.py"
            [grid]
            epochs = [2.0]
            method.options.layout = ["matmul", "kronecker"]
            method.options.blocks = [1, 4, 16]
            """,
        )
        for job in jobs(experiment, tmp_path, None):
            finish(job)
        found = records.collect(experiment, tmp_path)
        panel = panels.panel(experiment, *experiment.views, found)
        assert (panel.x_label, panel.log_x) == ("blocks", True)
        assert [series.name for series in panel.series] == ["layout=matmul", "layout=kronecker"]
        assert [point.x for point in panel.series[0].points] == [1, 4, 16]
        text = render.page(experiment, found)
        assert "| | blocks | variables | test accuracy | runs |" in text
        assert "| layout=kronecker | 16 | 100 | 50.00 | 1 of 1 |" in text

    @pytest.mark.parametrize(
        ("values", "by_factors"),
        [([1, 4, 16], True), ([0.1, 0.2, 0.4, 0.8], True), ([10, 20, 30, 40], False), ([1, 2], 0),
         ([0, 1, 10], False), ([1, 10], True)],
    )  # fmt: skip
    def test_axes_are_logarithmic_where_values_are_spread_by_factors(self, values, by_factors):
        assert figure_panels.by_factors(values) == by_factors

    def test_arguments_of_the_config_are_an_axis_too(self, tmp_path):
        rows = self.load(
            tmp_path,
            """
            config = "configs/digits.py:method=smh,target_size=27000"
            [grid]
            arguments.method = ["dense", "multi_hash"]
            optimizer.learning_rate = [0.1]
            [[list]]
            arguments.method = "multi_hash"
            method.options.num_hashes = 2
            """,
        ).rows
        assert [row.name for row in rows] == [
            "method=dense,learning_rate=0.1", "method=multi_hash,learning_rate=0.1",
            "method=multi_hash,num_hashes=2",
        ]  # fmt: skip
        methods = [row.read_config(0).method for row in rows]
        assert [method.name for method in methods] == ["dense", "multi_hash", "multi_hash"]
        assert [method.target_size for method in methods] == [None, 27_000, 27_000]
        assert [method.options.get("num_hashes") for method in methods] == [None, 1, 2]
        assert rows[2].command(0, "w")[3] == (
            "--config=configs/digits.py:method=smh,target_size=27000,method=multi_hash"
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("config = 3", "config=3 must be a str"),
            ("grid = {}", "config is missing"),
            ('config = "configs/digits.py"', "neither grid nor list"),
            ('config = "configs/digits.py"\nmode = 1', "'mode' is unknown"),
            ('config = "c"\n[grid]\nseed = 1', "seed=1 must be a list"),
            ('config = "c"\nseeds = []\n[grid]\na = [1]', "seeds=\\[\\] must be different"),
            ('config = "c"\nseeds = [0, 0]\n[grid]\na = [1]', "must be different"),
            ('config = "c"\nseeds = ["1"]\n[grid]\na = [1]', "must be different"),
            ("config =", "Invalid value"),
        ],
    )
    def test_mistakes(self, tmp_path, text, message):
        with pytest.raises(ValueError, match=message):
            self.load(tmp_path, text)

    def test_a_missing_file(self):
        with pytest.raises(ValueError, match="No such file"):
            sweep.load("nowhere.toml")


class TestJobs:
    @pytest.fixture
    def all_jobs(self, tmp_path) -> list[Job]:
        rows = (a_row(name="a"), a_row(name="b", overrides={"epochs": 2.0}))
        rows = tuple(dataclasses.replace(row, seeds=(0, 1)) for row in rows)
        return jobs(an_experiment(*rows), tmp_path, None)

    def test_every_row_gets_its_first_seed_before_any_gets_its_second(self, all_jobs):
        assert [job.name for job in all_jobs] == ["a/seed0", "b/seed0", "a/seed1", "b/seed1"]

    def test_what_is_done_and_what_is_left(self, all_jobs):
        finish(all_jobs[1])
        done, left = split(all_jobs)
        assert list(done) == [all_jobs[1]]
        assert left == [all_jobs[0], *all_jobs[2:]]

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda job: job.result_path.write_text('{"test_acc'), "cannot be read"),
            (lambda job: job.result_path.write_text("[]"), "not a JSON object"),
            (lambda job: (job.workdir / "config.json").unlink(), "config.json is not the config"),
            (lambda job: finish_again(job, test_accuracy=1.5), "must be within 0 and 1"),
            (lambda job: finish_again(job, num_variables=None), "num_variables=None must be"),
            (lambda job: finish_again(job, test_accuracy=float("nan")), "test_accuracy=nan"),
        ],
    )
    def test_a_corrupt_result_is_named_and_set_aside(self, all_jobs, damage, message):
        job = all_jobs[0]
        finish(job)
        assert job.result()["test_accuracy"] == 0.5
        damage(job)
        with pytest.raises(CorruptResultError, match=message):
            job.result()
        done, left = split(all_jobs, set_aside=False)
        assert (done, left) == ({}, all_jobs)
        assert job.workdir.exists()
        done, left = split(all_jobs)
        assert not done
        assert job in left
        assert not job.workdir.exists()
        assert job.workdir.with_name("seed0.set-aside-1").is_dir()

    def test_a_result_of_another_config_is_not_counted(self, all_jobs):
        finish(all_jobs[0])
        changed = dataclasses.replace(all_jobs[0].row, overrides={"epochs": 2.0})
        other = dataclasses.replace(all_jobs[0], row=changed)
        with pytest.raises(CorruptResultError, match=r"epochs: 40\.0 there, 2\.0 here"):
            other.result()


def finish_again(job: Job, **changes) -> None:
    """Writes another result into a finished run."""
    result = json.loads(job.result_path.read_text())
    job.result_path.write_text(json.dumps({**result, **changes}))


def test_a_result_counts_that_began_with_an_option_that_is_no_more(tmp_path):
    (job,) = jobs(an_experiment(a_row()), tmp_path, (0,))
    finish(job)
    path = job.workdir / "config.json"
    content = json.loads(path.read_text())
    content["method"]["options"]["pool_dtype"] = "float32"
    path.write_text(json.dumps(content))
    assert job.result() is not None
    content["method"]["options"]["pool_dtype"] = "bfloat16"
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptResultError, match="option 'pool_dtype' of method smh is unknown"):
        job.result()


def test_runs_in_a_bucket():
    experiment = an_experiment(a_row(), a_row(name="b"))
    with tfds.testing.MockFs():
        first, second = jobs(experiment, root("gs://bucket/paper"), None)
        assert first.command()[-1] == "--workdir=gs://bucket/paper/x-sweep/a/seed0"
        assert split([first, second]) == ({}, [first, second])
        finish(first)
        done, left = split([first, second])
        assert (list(done), left) == ([first], [second])
        finished, missing = records.collect(experiment, root("gs://bucket/paper"))
        assert (finished.size, missing.size) == (100, None)
        # What a host prints and locks is its own.
        lock = second.file_alongside("lock", 1)
        assert lock == ROOT / "runs/bucket/paper/x-sweep/b/seed0.1.lock"
    assert root("runs") == pathlib.Path("runs").resolve()


def test_costs_grow_with_epochs_and_models(tmp_path):
    rows = (
        a_row(name="a"),
        a_row(name="longer", overrides={"epochs": 80.0}),
        a_row(name="deeper", config="configs/digits.py:depth=32"),
    )
    costs = [cost.estimate(job) for job in jobs(an_experiment(*rows), tmp_path, None)]
    assert costs[1].steps == 2 * costs[0].steps
    hours = [each.device_hours - each.start_up_hours for each in costs]
    assert hours[1] == pytest.approx(2 * hours[0])
    assert 1.5 < hours[2] / hours[0] < 1.8
    assert costs[0].device == "CPU core"
    (total,) = cost.totals(costs)
    assert total.start_up_hours > 0
    assert total.start_up_hours == pytest.approx(3 * costs[0].start_up_hours)
    assert "start-up included" in str(total)


def test_a_slice_is_paid_by_the_chip_and_takes_its_share_of_the_time():
    on_slice = cost.Cost(10, 96.0, "TPU v3 chip", tpu_slice=TpuSlice("v3", "4x4"))
    total, on_cores = sorted(
        cost.totals([on_slice, on_slice, cost.Cost(5, 3.0, "CPU core")]), key=lambda c: -c.steps
    )
    assert total.price(2.5) == 2 * 96 * 2.5
    assert "192.0 hours of one TPU v3 chip: 0.5 days of a slice of 4x4 chips" in str(total)
    assert on_cores.price(2.5) == 0
    assert "slice" not in str(on_cores)


def test_the_best_rate_is_chosen_unless_it_is_at_the_edge():
    assert small_scale.best_rate("smh", {0.1: 0.5, 0.2: 0.7, 0.4: 0.7, 0.8: 0.6}) == 0.2
    with pytest.raises(ValueError, match=r"of smh, 0\.8, is at the edge"):
        small_scale.best_rate("smh", {0.1: 0.5, 0.2: 0.7, 0.8: 0.8})
    kinds = {row.series for row in catalogue.load("tuning", "reduced").rows}
    assert set(REDUCED.rates()) == kinds == set(STANDARD.rates())


def test_a_search_that_is_not_complete_decides_nothing(tmp_path):
    rates = {"smh": (0.1, 0.2, 0.4), "hash_1": (0.1, 0.2, 0.4)}
    rows = [
        {
            "series": series,
            "group": "ResNet-8",
            "settings": {"optimizer.learning_rate": rate},
            # The last of smh's is missing.
            "runs": [{"test_accuracy": 0.5 + rate % 0.3}] * ((series, rate) != ("smh", 0.4)),
        }
        for series, tried in rates.items()
        for rate in tried
    ]
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"rows": rows}))
    assert small_scale.searched_rates(path) == {"hash_1": 0.2}


class TestReport:
    @pytest.fixture
    def experiment(self) -> Experiment:
        number = paper.find("figure6", "cifar_resnet32", "smh", 46_662)
        rows = (
            a_row(name="a", seeds=(0, 1, 2), paper=number, note="a reading"),
            a_row(name="b", seeds=(0, 1), series="hash_1"),
        )
        return Experiment("x", "sweep", "Title", "Better?", rows)

    def test_seeds_that_were_asked_for_in_place_of_the_rows_own(self, experiment, tmp_path):
        (job, *_) = jobs(experiment, tmp_path, (4,))
        finish(job)
        first, second = records.collect(experiment, tmp_path)
        assert list(first.accuracies) == [4]
        assert not second.runs

    def test_an_early_report_has_no_picture(self, tmp_path):
        early = catalogue.load("table1", "reduced")
        plots.save(early, tuple(records.Record(row, ()) for row in early.rows), tmp_path / "a")
        assert not list(tmp_path.iterdir())
        dense = tuple(
            records.Record(row, ({"seed": 0, "test_accuracy": 0.9, "num_variables": 75_002},))
            if "dense" in row.name
            else records.Record(row, ())
            for row in early.rows
        )
        plots.save(early, dense, tmp_path / "a")

    def test_means_missing_rows_and_files(self, experiment, tmp_path):
        for job in jobs(experiment, tmp_path, (0, 1, 2))[:3:2]:
            assert job.row.name == "a"
            finish(job)
        found = records.collect(experiment, tmp_path)
        # 50% of seed 0 and 60% of seed 1; seed 2 is missing.
        assert found[0].mean == pytest.approx(55)
        assert found[0].stddev == pytest.approx(50**0.5)
        text = render.page(experiment, found)
        assert "| SMH | g | 100 | 55.00 ± 7.07 | 2 of 3 | 90.15 | 46,662 |" in text
        assert "| 1 hash | g |  | missing | 0 of 2 |  |  |" in text
        assert "- SMH: a reading" in text

        path = tmp_path / "x.json"
        records.write(experiment, found, path)
        assert records.read(experiment, path) == found
        path.write_text("{}")
        with pytest.raises(ValueError, match=r"x\.json holds no results"):
            records.read(experiment, path)

    def test_a_search_has_a_column_for_each_rate(self, tmp_path):
        rows = tuple(
            a_row(name=f"{series}-{rate}", series=series, overrides={records.RATE: rate})
            for series, rate in (("smh", 0.2), ("smh", 0.4), ("dense", 0.4), ("dense", 0.8))
        )
        experiment = an_experiment(*rows, plot="rates", measure="accuracy")
        for job in jobs(experiment, tmp_path, None)[:3]:
            finish(job, test_accuracy=0.9 - job.row.overrides[records.RATE])
        text = render.page(experiment, records.collect(experiment, tmp_path))
        assert "| learning rate | 0.2 | 0.4 | 0.8 |" in text
        assert "| SMH | **70.00** | 50.00 |  |" in text
        assert "| uncompressed |  | **50.00** | missing |" in text
        assert "Accuracy in percent" in text

    @pytest.mark.parametrize("plot", ["curves", "dots"])
    def test_pictures(self, experiment, plot, tmp_path):
        plots = pytest.importorskip("experiments.plots")
        experiment = dataclasses.replace(experiment, plot=plot)
        for job in jobs(experiment, tmp_path, (0, 1)):
            finish(job)
        found = records.collect(experiment, tmp_path)
        plots.save(experiment, found, tmp_path / "picture")
        drawn = (tmp_path / "picture.svg").read_text()
        plots.save(experiment, found, tmp_path / "again")
        assert (tmp_path / "again.svg").read_text() == drawn
        plots.save(experiment, found[:1], tmp_path / "other")
        assert (tmp_path / "other.svg").read_text() != drawn
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


class Machines:
    """An executor that plays two machines: jobs end in the order in which they start.

    Attributes:
        rounds: names of the jobs that ran at once.
    """

    def __init__(self, failing=(), interrupted=()):
        self.rounds, self._failing, self._interrupted = [], failing, interrupted

    def __call__(self, queue):
        while queue:
            active = [queue.popleft() for _ in range(min(2, len(queue)))]
            self.rounds.append([job.row.name for job in active])
            for job in active:
                if job.row.name in self._failing:
                    yield Outcome(job, "broken")
                elif job.row.name in self._interrupted:
                    yield Outcome(job, interrupted=True)
                else:
                    finish(job)
                    yield Outcome(job)


class TestRunner:
    @pytest.fixture
    def all_jobs(self, tmp_path) -> list[Job]:
        """A dense row, what is converted from it and fine-tuned, and a row on its own."""
        rows = (
            a_row(name="tuned", overrides={"init_from": "@student", "distillation.teacher": "@d"}),
            a_row(name="student", overrides={"init_from": "@d"}),
            a_row(name="d"),
            a_row(name="alone"),
        )
        return jobs(an_experiment(*rows), tmp_path, None)

    def run(self, all_jobs, machines):
        return runner.run_all({job: cost.Cost(1, 1.0, "CPU core") for job in all_jobs}, machines)

    def test_rows_run_after_those_that_they_need_and_else_at_once(self, all_jobs):
        machines = Machines()
        assert not self.run(all_jobs, machines)
        assert machines.rounds == [["d", "alone"], ["student"], ["tuned"]]
        done, left = split(all_jobs)
        assert list(done) == all_jobs
        assert not left

    def test_what_is_done_is_not_repeated(self, all_jobs):
        finish(all_jobs[2])
        machines = Machines()
        self.run(split(all_jobs)[1], machines)
        assert machines.rounds == [["student", "alone"], ["tuned"]]

    def test_a_failed_run_is_tried_twice_and_what_needs_it_is_not_started(self, all_jobs):
        machines = Machines(failing=("student",))
        assert self.run(all_jobs, machines) == {all_jobs[1]: "broken"}
        assert machines.rounds == [["d", "alone"], ["student"], ["student"]]

    def test_an_interrupted_run_is_not_tried_again(self, all_jobs):
        machines = Machines(interrupted=("d",))
        assert not self.run(all_jobs, machines)
        assert machines.rounds == [["d", "alone"]]

    def test_a_chosen_row_comes_with_those_that_it_needs(self, all_jobs):
        assert runner.select(all_jobs, ["stu*"]) == all_jobs[1:3]
        assert runner.select(all_jobs, ["alone", "d"]) == all_jobs[2:]
        assert runner.select(all_jobs, None) == all_jobs
        with pytest.raises(ValueError, match="matches no row; there are tuned, student, d, alone"):
            runner.select(all_jobs, ["nothing"])
        with pytest.raises(ValueError, match="student/seed0 needs d/seed0: give both rows"):
            runner.select(all_jobs[:2], None)


def test_an_exit_code_is_an_outcome(tmp_path):
    (job,) = jobs(an_experiment(a_row()), tmp_path, None)
    # A run that was told to end exits with a code of its own, and is neither done nor failed.
    assert outcome(job, INTERRUPTED) == Outcome(job, interrupted=True)
    assert outcome(job, 0).message == f"exit code 0, but {job.result_path} is missing"
    finish(job)
    assert outcome(job, 0) == Outcome(job)
    job.file_alongside("log", 3).write_text("first\nlast\n")
    assert outcome(job, 1, process_id=3).message == "exit code 1: last"
    assert outcome(job, 1).message == "exit code 1: it printed nothing"


@pytest.mark.slow
def test_a_model_is_trained_converted_and_fine_tuned(digits_dir, tmp_path, caplog):
    """By the real commands, and measured as an export."""
    common = {"data.data_dir": digits_dir, "model.options.width_multiplier": 0.25, "epochs": 0.2}
    student = "configs/digits.py:depth=8,target_size=1900"
    rows = (
        a_row(name="tuned", config=student, overrides=common | {"init_from": "@converted"}),
        a_row(name="converted", config=student, overrides=common, convert_from="dense"),
        a_row(
            name="dense", config="configs/digits.py:depth=8,method=dense", overrides=common,
            precisions=("float32",),
        ),
    )  # fmt: skip
    experiment = an_experiment(*rows)
    all_jobs = jobs(experiment, tmp_path, None)
    converted = all_jobs[1]
    # What an interrupted conversion leaves is made anew.
    converted.workdir.mkdir(parents=True)
    (converted.workdir / "manifest.json").write_text("{")
    costs = {job: cost.estimate(job) for job in all_jobs}
    assert not runner.run_all(costs, functools.partial(local.execute, workers=1))
    assert all(job.result() for job in all_jobs)
    tuned, student, dense = records.collect(experiment, tmp_path)
    assert student.steps == 0
    assert student.size == tuned.size <= 1900
    assert min(student.runs[0]["relative_errors"].values()) > 0
    export = dense.runs[0]["exports"]["float32"]
    assert export["accuracy"] == pytest.approx(dense.runs[0]["test_accuracy"], abs=1e-4)
    assert export["bytes"] > 4 * dense.size


def run_sweep(path: pathlib.Path, workdir: pathlib.Path, *flags: str, module: str = "run"):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", str(path), f"--workdir={workdir}", *flags],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_a_sweep_from_the_command_line(digits_dir, tmp_path):
    """A kill in mid-run, failure and retry, no repetition, a corrupt result, a report."""
    path, workdir = tmp_path / "rates.toml", tmp_path / "runs"
    # Far too high a rate diverges.
    path.write_text(SWEEP.format(data_dir=digits_dir, second_rate=1e9))

    # Killed with its jobs: nothing is counted that is not there.
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", str(path), f"--workdir={workdir}"],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(workdir.rglob("*.log")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = run_sweep(path, workdir)
    assert done.returncode == 1
    assert "0 runs done, 2 left" in done.stdout
    assert "failed and is tried once more" in done.stderr
    assert "1 of 2 runs failed, twice each" in done.stderr
    assert "is not finite" in done.stderr or "nan at step" in done.stderr
    good, _ = jobs(sweep.load(str(path)), workdir, None)
    first = good.result()
    done, left = split([good])
    assert done == {good: first}
    assert not left

    good.result_path.write_text(good.result_path.read_text()[:-40])
    done, left = split([good])
    assert not done
    runner.run_all({good: cost.estimate(good)}, functools.partial(local.execute, workers=1))
    # The same command on the same machine gives the same number.
    assert good.result()["test_loss"] == pytest.approx(first["test_loss"])

    pytest.importorskip("matplotlib")
    output = workdir / "reports"
    done = run_sweep(path, workdir, module="report")
    assert done.returncode == 0, done.stderr
    assert "| missing | 0 of 1 |" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"written: {output}/rates_sweep")
    assert {p.name for p in output.iterdir()} == {
        f"rates_sweep.{ending}" for ending in ("json", "md", "png", "svg")
    }


def test_mistakes_on_the_command_line(tmp_path):
    done = run_sweep("table1", tmp_path / "runs", "--seeds=a")
    assert done.returncode == 1
    assert "--seeds=a must be whole numbers" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="did you mean table"):
        catalogue.load("table9", "reduced")
    with pytest.raises(ValueError, match="--workers=1000 must be within 1 and"):
        next(local.execute(collections.deque(), workers=1000))


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names("paper"))
def test_every_row_of_the_paper_has_the_size_that_it_states(name):
    """On shapes alone."""
    check_sizes(catalogue.load(name, "paper"))


# Read out of a figure, whose width multiplier the paper does not name, and rounded to 0.1M.
ROUNDED = {"resnet50-width_multiplier-width0.33": 0.02}


@functools.cache
def manifest_of(name: str, options: tuple, hashed: str, num_classes: int, shape: tuple) -> Manifest:
    """Without the initial values, which change no size."""
    model = models.create(name, num_classes=num_classes, **dict(options))
    return Manifest.from_model(model, shape, hashed=hashed, measure=False)


def check_sizes(experiment: Experiment) -> None:
    checked, built = 0, set()
    for row in experiment.rows:
        config = row.read_config(0)
        options = tuple(sorted(config.model.options.items()))
        info = data.describe(
            config.data.name, None, config.data.image_size, config.data.preprocessing
        )
        manifest = manifest_of(
            config.model.name, options, config.method.hashed, info.num_classes,
            (1, *info.image_shape),
        )  # fmt: skip
        if config.model.name not in built:
            # The whole run on the slice, once per model: it traces the model again.
            assert Run.from_config(config, manifest, num_devices=32).method.num_variables
            built.add(config.model.name)
        size = methods.create(
            config.method.name, manifest, target_size=config.method.target_size,
            **config.method.options,
        ).num_variables  # fmt: skip
        target = config.method.target_size
        if target is not None:
            assert 0.99 * target < size <= target, row.name
        if row.paper and row.paper.size:
            assert size == pytest.approx(row.paper.size, rel=ROUNDED.get(row.name, 0.01)), row.name
            checked += 1
    assert checked or not any(row.paper and row.paper.size for row in experiment.rows)


def test_an_elastic_run_is_a_row_for_each_of_its_sizes(tmp_path):
    """With one folder and one training; what the run says of a size is the row's."""
    experiment = catalogue.load("elastic", "reduced")
    all_jobs = jobs(experiment, tmp_path, (0, 1))
    sizes = {row.name: row for row in experiment.rows if row.size_of}
    assert {job.row.name for job in all_jobs} == {row.name for row in experiment.rows} - set(sizes)
    for job in all_jobs:
        trained, method = job.config.elastic.sizes, job.config.method
        changes = {"num_variables": method.target_size - 7}
        if trained:
            every = (*map(int, trained), method.target_size)
            changes["sizes"] = [
                {"size": s, "num_variables": s - 7, "accuracy": s / 2e5 + job.seed / 100, "loss": 2}
                for s in every
            ]
        finish(job, **changes)
    collected = records.collect(experiment, tmp_path)
    for record in collected:
        row = record.row
        assert len(record.runs) == 2
        if row.size_of:
            wanted = [100 * (row.elastic_size / 2e5 + seed / 100) for seed in (0, 1)]
            assert list(record.accuracies.values()) == pytest.approx(wanted)
            assert record.size == row.elastic_size - 7
            assert record.runs[0]["train_seconds"] == 0
            assert f"/{row.size_of}/seed0" in record.runs[0]["command"]
    page = render.page(experiment, collected)
    assert f"Training took {7 * len(all_jobs) / 3600:.1f} hours" in page
    assert page.count("**yes**") + page.count("**no**") == len(experiment.claims) == 24
    curves = [panels.panel(experiment, view, collected) for view in experiment.views[:2]]
    assert [len(panel.series) for panel in curves] == [4, 4]
    assert all(len(series.points) == 5 for panel in curves for series in panel.series)
    with pytest.raises(ValueError, match="row 'b' needs 'a', which is no row"):
        an_experiment(a_row(name="b", size_of="a"))


def test_a_run_of_several_tasks_is_a_row_for_each_of_them(tmp_path):
    """Of the same total size, and in as many steps, as the models of their own."""
    experiment = catalogue.load("shared", "reduced")
    all_jobs = jobs(experiment, tmp_path, (0, 1))
    of_tasks = [row for row in experiment.rows if row.size_of]
    assert len(of_tasks) == 2 + 4 + 8
    assert len(all_jobs) == 2 * (8 + 3)
    at = {job.row.name: job for job in all_jobs}
    assert {cost.estimate(job).steps for job in all_jobs} == {1406}
    hours = {
        name: cost.estimate(job).device_hours - cost.estimate(job).start_up_hours
        for name, job in at.items()
    }
    apart = hours["alone-fashion_mnist"] + hours["alone-digits"]
    assert hours["shared-2"] == pytest.approx(apart, rel=1e-2)
    for job in all_jobs:
        names = list(task_configs.read(job.config)) if job.config.tasks else []
        changes = {"num_variables": job.config.method.target_size - 3}
        if names:
            assert job.config.method.target_size == len(names) * 7_500
            changes["tasks"] = [
                {"task": name, "accuracy": 0.5 + i / 20 + job.seed / 100, "loss": 2, "examples": 9}
                for i, name in enumerate(names)
            ]
        finish(job, **changes)
    collected = {record.row.name: record for record in records.collect(experiment, tmp_path)}
    record = collected["shared-4-digits_inverted"]
    assert list(record.accuracies.values()) == pytest.approx([65, 66])
    assert record.size == (4 * 7_500 - 3) // 4
    assert record.runs[0]["train_seconds"] == 0
    page = render.page(experiment, tuple(collected.values()))
    assert page.count("**yes**") + page.count("**no**") == len(experiment.claims) == 14
    (panel,) = (panels.panel(experiment, view, tuple(collected.values()))
                for view in experiment.views[:1])  # fmt: skip
    assert len(panel.series) == 4


def test_transformers_have_equal_sizes_and_rates_of_their_own_search(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers, "RESULTS", tmp_path)
    unsearched = catalogue.load("transformers", "reduced")
    search = catalogue.load("transformer_rates", "reduced")
    for job in jobs(search, tmp_path, None):
        held_out, whole = job.config.data.eval_split, job.config.data.train_split
        assert held_out == whole.replace("[:", "[").replace("]", ":]") != whole
        # Of the language model's SMH alone it is another one.
        best = 0.096 if job.row.name.startswith("rates-gpt2-smh") else 0.048
        is_best = job.config.optimizer.learning_rate in (best, 0.008)
        finish(job, test_accuracy=0.9 if is_best else 0.5)
    records.write(search, records.collect(search, tmp_path), tmp_path / transformers.RATES_FILE)
    searched = catalogue.load("transformers", "reduced")
    rates = {row.name: row.overrides[records.RATE] for row in searched.rows}
    assert (
        rates
        == {
            row.name: 0.096 if row.name.startswith("gpt2-smh") else row.overrides[records.RATE]
            for row in unsearched.rows
        }
        != {row.name: row.overrides[records.RATE] for row in unsearched.rows}
    )
    counts = set()
    for row in searched.rows:
        config = row.read_config(0)
        manifest = _weights(config)
        counts.add((row.series, config.method.target_size, manifest.num_weights))
    assert counts == {
        (kind, None if dense else size, size if kind == "width_multiplier" else whole)
        for whole, sizes in ((116_362, (12_610, 30_538)), (469_152, (45_444, 123_984)))
        for size in sizes
        for kind in transformers.KINDS
        for dense in [kind in ("dense", "width_multiplier")]
    }


def _weights(config):
    """The manifest of a run's model."""
    task = tasks.of_name(config.task)
    info = task.describe(config.data)
    options = {"num_classes": info.num_classes, **config.model.options}
    return Manifest.from_model(
        models.create(config.model.name, **options),
        task.example(info),
        example_kwargs={"train": False},
        measure=False,
    )


def test_adapters_start_from_a_dense_model_and_have_equal_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "RESULTS", tmp_path)
    experiment = catalogue.load("adapters", "reduced")
    by_name = {row.name: row for row in experiment.rows}
    bases = {case.base.name for case in adapters.CASES}
    sizes = collections.Counter()
    for row in experiment.rows:
        if row.name in bases:
            continue
        config = row.read_config(1, "runs")
        is_adapter = config.method.name != "dense"
        start = config.frozen_from if is_adapter else config.init_from
        (needed,) = row.needs
        assert start == f"runs/{needed}/seed1"
        base = by_name[needed].read_config(1, "runs")
        assert needed in bases
        assert base.method.name == "dense"
        assert config.model == base.model
        changed = configs.differences(config, base)
        assert {"data.transform", "data.name"} & set(changed)
        if is_adapter:
            assert config.optimizer.scale_rate == 1.0
            method = methods.create(
                config.method.name, _weights(config), target_size=config.method.target_size
            )
            sizes[row.group, config.method.target_size, row.series] += method.num_variables
    of_size = {}
    for (group, size, series), count in sizes.items():
        of_size.setdefault((group, size), {})[series] = count
        # The scales count, too.
        assert 0.9 * size < count <= size, (group, size, series)
    assert len(of_size) == 6
    assert all(len(methods_of) == 2 for methods_of in of_size.values())


def test_rates_of_adapters_are_those_of_their_own_search(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "RESULTS", tmp_path)
    search = catalogue.load("adapter_rates", "reduced")
    for job in jobs(search, tmp_path, (0,)):
        if not job.row.name.startswith("rates-"):
            continue
        assert job.config.data.eval_split != "test"
        rate = job.config.optimizer.learning_rate
        finish(job, test_accuracy=0.9 if rate in (0.1, 0.012) else 0.5)
    records.write(search, records.collect(search, tmp_path), tmp_path / adapters.RATES_FILE)
    searched = catalogue.load("adapters", "reduced")
    rates = {
        row.overrides[records.RATE] for row in searched.rows if row.name.startswith("adapters-")
    }
    assert rates == {0.1, 0.012}
    # Until then, those in the middle.
    monkeypatch.setattr(adapters, "RESULTS", tmp_path / "none")
    middle = catalogue.load("adapters", "reduced")
    rates = {row.overrides[records.RATE] for row in middle.rows if row.name.startswith("adapters-")}
    assert rates == {0.2, 0.024, 0.006}


def test_bits_per_character_have_a_column_where_there_are_any(tmp_path):
    experiment = an_experiment(a_row(name="a", seeds=(0, 1)), a_row(name="b"))
    pages = []
    for bits in ({}, {"test_bits_per_character": 1.25}):
        folder = tmp_path / str(len(bits))
        for job in jobs(experiment, folder, None):
            finish(job, **(bits if job.row.name == "a" else {}))
        pages.append(render.page(experiment, records.collect(experiment, folder)))
    without, having = pages
    assert "bits" not in without
    assert "| test accuracy | bits per character | runs |" in having
    assert "| 1.25 ± 0.00 | 2 of 2 |" in having
    assert "|  | 1 of 1 |" in having


def test_an_elastic_run_is_estimated_at_the_sizes_that_a_step_trains():
    experiment = catalogue.load("elastic", "reduced")
    at = {job.row.name: job for job in jobs(experiment, pathlib.Path(), (0,))}
    alone, run = (cost.estimate(at[name]) for name in ("resnet8-smh-2250", "elastic-resnet8-3"))
    hours = [estimate.device_hours - estimate.start_up_hours for estimate in (alone, run)]
    assert hours[1] == pytest.approx(3 * hours[0])
