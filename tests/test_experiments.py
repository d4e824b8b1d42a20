"""Rows, runner, sweeps and reports of the experiments."""

import collections
import csv
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

from experiments import catalogue, cost, paper, records, render, sweep
from experiments.answers import answer
from experiments.experiment import Claim, Experiment
from experiments.job import CorruptResultError, Job, jobs, split
from experiments.row import Row
from experiments.tables import tuning
from smh_jax import config as configs
from smh_jax import data, models
from smh_jax.manifest import Manifest
from smh_jax.training import run
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


class TestRow:
    def test_overrides_and_seed_reach_the_config(self):
        row = a_row(overrides={"optimizer.learning_rate": 0.07, "method.options.blocks": 4})
        config = row.build(seed=3)
        assert config.optimizer.learning_rate == 0.07
        assert config.method.options["blocks"] == 4
        assert config.seed == 3
        assert a_row().build(seed=3).optimizer.learning_rate != 0.07

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"config": "configs/none.py"}, r"no config file 'configs/none\.py'"),
            ({"config": "configs/digits.py:dept=8"}, "did you mean depth"),
            ({"overrides": {"optimizer.rate": 1.0}}, "optimizer.rate=1.0 is unknown"),
            ({"overrides": {"epochs": "many"}}, "epochs='many' is refused"),
        ],
    )
    def test_mistakes_name_the_row(self, changes, message):
        with pytest.raises(ValueError, match=message) as error:
            a_row(**changes).build(0)
        assert str(error.value).startswith("row a: ")

    def test_the_command_gives_the_same_config(self, run_python, tmp_path):
        row = a_row(
            overrides={"optimizer.learning_rate": 0.07, "method.options.layout": "kronecker"}
        )
        python, *arguments = row.command(2, "somewhere")
        assert python == "python"
        assert arguments[-1] == "--workdir=somewhere"
        # The flags are read by the trainer's own machinery, and nothing is trained.
        code = (
            "import json, sys; from absl import flags; from smh_jax import config, main;"
            f"sys.argv = ['x', *{arguments[2:]!r}]; flags.FLAGS(sys.argv);"
            "print(json.dumps(config.to_json_dict(config.from_config_dict(main.CONFIG.value))))"
        )
        done = run_python("-c", code)
        read = configs.from_config_dict(json.loads(done.stdout.splitlines()[-1]))
        assert not configs.differences(read, row.build(2))
        assert configs.differences(read, row.build(1))


@pytest.mark.parametrize("scale", catalogue.SCALES)
@pytest.mark.parametrize("name", [n for n in catalogue.names() if n != "tuning"])
def test_every_row_resolves(name, scale):
    experiment = catalogue.load(name, scale)
    assert experiment.name == name
    assert experiment.scale == scale
    for row in experiment.rows:
        config = row.build(0)
        size = row.paper.size if row.paper else None
        if scale == "paper" and size and config.method.target_size:
            # The like-for-like rows of Figure 6 train 31 scales that the paper does not count.
            beyond = 31 if row.series == "smh_like_for_like" else 0
            assert config.method.target_size == size + beyond


def test_tuning_never_sees_the_test_set():
    for row in catalogue.load("tuning", "reduced").rows:
        config = row.build(0)
        assert config.data.train_split == "train[:50000]"
        assert config.data.eval_split == "train[50000:]"


def test_rows_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"several rows are named a"):
        Experiment("x", "sweep", "t", "q", (a_row(), a_row()))


def test_a_claim_is_about_rows():
    with pytest.raises(ValueError, match=r"x: a claim is about 'b', which is no row"):
        Experiment("x", "sweep", "t", "q", (a_row(),), claims=(Claim("a is best", "a", "b"),))


@pytest.mark.parametrize("scale", catalogue.SCALES)
def test_rows_of_one_name_in_several_tables_are_one_run(scale, tmp_path):
    """They share a folder, so they must train the same."""
    names = [name for name in catalogue.names() if scale == "reduced" or name != "tuning"]
    commands = collections.defaultdict(list)
    for name in names:
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
    experiment = Experiment("x", "sweep", "t", "q", rows, claims=(claim,))
    assert answer(claim, records.collect(experiment, tmp_path)).endswith(": not trained yet.")
    for job in jobs(experiment, tmp_path, None):
        better = changes[job.row.name == "ours"]
        finish(job, test_accuracy=0.5 + 0.1 * job.seed + better)
        if job.name == "ours/seed0":
            single = answer(claim, records.collect(experiment, tmp_path))
            assert "of a single seed" in single
    found = records.collect(experiment, tmp_path)
    assert answer(claim, found) == f"Ours is better: {expected}."
    assert f"- Ours is better: {expected}." in render.markdown(experiment, found)


def test_numbers_of_the_paper():
    number = paper.find("table1", "efficientnet_b2", "smh", 5_300_000)
    assert (number.accuracy, number.speed) == (77.4, 6060)
    assert len(paper.sizes("figure6", "cifar_resnet32", "smh")) == 13
    with pytest.raises(KeyError, match="5300001"):
        paper.find("table1", "efficientnet_b2", "smh", 5_300_001)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/sweeps").glob("*.toml")), ids=str)
def test_every_ablation_resolves(path):
    rows = sweep.load(str(path)).rows
    assert len({json.dumps(configs.to_json_dict(row.build(0))) for row in rows}) == len(rows)


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
        assert experiment.rows[3].build(0).method.options["blocks"] == 4

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
        methods = [row.build(0).method for row in rows]
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
        return jobs(Experiment("x", "sweep", "t", "q", rows), tmp_path, None)

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
            (lambda job: (job.workdir / "config.json").unlink(), "config.json cannot be read"),
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
        done, left = split(all_jobs)
        assert not done
        assert job in left
        assert not job.workdir.exists()
        assert job.workdir.with_name("seed0.set-aside-1").is_dir()

    def test_a_result_of_another_config_is_not_counted(self, all_jobs):
        finish(all_jobs[0])
        other = dataclasses.replace(all_jobs[1], workdir=all_jobs[0].workdir)
        with pytest.raises(CorruptResultError, match=r"epochs: 40\.0 there, 2\.0 here"):
            other.result()


def finish_again(job: Job, **changes) -> None:
    """Writes another result into a finished run."""
    result = json.loads(job.result_path.read_text())
    job.result_path.write_text(json.dumps({**result, **changes}))


def test_costs_grow_with_epochs_and_models(tmp_path):
    rows = (
        a_row(name="a"),
        a_row(name="longer", overrides={"epochs": 80.0}),
        a_row(name="deeper", config="configs/digits.py:depth=32"),
    )
    costs = [
        cost.estimate(job) for job in jobs(Experiment("x", "sweep", "t", "q", rows), tmp_path, None)
    ]
    assert costs[1].steps == 2 * costs[0].steps
    assert costs[1].device_hours == pytest.approx(2 * costs[0].device_hours)
    assert 1.5 < costs[2].device_hours / costs[0].device_hours < 1.8
    assert costs[0].device == "CPU core"


def test_the_best_rate_is_chosen_unless_it_is_at_the_edge():
    assert tuning.choose({0.1: 0.5, 0.2: 0.7, 0.4: 0.7, 0.8: 0.6}) == 0.2
    with pytest.raises(ValueError, match=r"0\.8, is at the edge"):
        tuning.choose({0.1: 0.5, 0.2: 0.7, 0.8: 0.8})


class TestReport:
    @pytest.fixture
    def experiment(self) -> Experiment:
        number = paper.find("figure6", "cifar_resnet32", "smh", 46_662)
        rows = (
            a_row(name="a", seeds=(0, 1, 2), paper=number, note="a reading"),
            a_row(name="b", seeds=(0, 1), series="hash_1"),
        )
        return Experiment("x", "sweep", "Title", "Better?", rows)

    def test_means_missing_rows_and_files(self, experiment, tmp_path):
        for job in jobs(experiment, tmp_path, (0, 1, 2))[:3:2]:
            assert job.row.name == "a"
            finish(job)
        found = records.collect(experiment, tmp_path)
        # 50% of seed 0 and 60% of seed 1; seed 2 is missing.
        assert found[0].mean == pytest.approx(55)
        assert found[0].stddev == pytest.approx(50**0.5)
        text = render.markdown(experiment, found)
        assert "| SMH | g | 100 | 55.00 ± 7.07 | 2 of 3 | 90.15 | 46,662 |" in text
        assert "| 1 hash | g |  | missing | 0 of 2 |  |  |" in text
        assert "- SMH: a reading" in text
        lines = list(csv.reader(render.comma_separated(found).splitlines()))
        assert [line[3] for line in lines] == ["seed", "0", "1", ""]

        path = tmp_path / "x.json"
        records.write(experiment, found, path)
        assert records.read(path) == found
        path.write_text("{}")
        with pytest.raises(ValueError, match=r"x\.json holds no results"):
            records.read(path)

    def test_a_search_has_a_column_for_each_rate(self, tmp_path):
        rows = tuple(
            a_row(name=f"{series}-{rate}", series=series, overrides={records.RATE: rate})
            for series, rate in (("smh", 0.2), ("smh", 0.4), ("dense", 0.4), ("dense", 0.8))
        )
        experiment = Experiment("x", "sweep", "t", "q", rows, plot="rates", measure="accuracy")
        for job in jobs(experiment, tmp_path, None)[:3]:
            finish(job, test_accuracy=0.9 - job.row.overrides[records.RATE])
        text = render.markdown(experiment, records.collect(experiment, tmp_path))
        assert "| learning rate | 0.2 | 0.4 | 0.8 |" in text
        assert "| SMH | **70.00** | 50.00 |  |" in text
        assert "| uncompressed |  | **50.00** | missing |" in text
        assert "Accuracy in percent" in text

    @pytest.mark.parametrize("plot", ["curves", "bars"])
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


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run_sweep(path: pathlib.Path, workdir: pathlib.Path, *flags: str, module: str = "run"):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", str(path), f"--workdir={workdir}", *flags],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_sweep_from_the_command_line(digits_dir, tmp_path):
    """Dry run, failure and retry, a kill in mid-run, no repetition, a corrupt result, a report."""
    path, workdir = tmp_path / "rates.toml", tmp_path / "runs"
    # Far too high a rate diverges.
    path.write_text(SWEEP.format(data_dir=digits_dir, second_rate=1e9))
    good = workdir / "rates-sweep" / "width_multiplier=0.25,epochs=0.2,data_dir="
    done = run_sweep(path, workdir, "--dry_run")
    assert done.returncode == 0
    assert "0 runs done, 2 left" in done.stdout
    assert not workdir.exists()

    # Killed with its jobs: nothing is counted that is not there.
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", str(path), f"--workdir={workdir}"],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(workdir.rglob("log.txt")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = run_sweep(path, workdir)
    assert done.returncode == 1
    assert "failed and is tried once more" in done.stderr
    assert "1 of 2 runs failed, twice each" in done.stderr
    assert "is not finite" in done.stderr or "nan at step" in done.stderr
    (result,) = workdir.rglob("result.json")
    assert str(result).startswith(str(good))
    written = result.stat().st_mtime_ns

    done = run_sweep(path, workdir, "--only=*learning_rate=0.1")
    assert done.returncode == 0
    assert "1 runs done, 0 left" in done.stdout
    assert result.stat().st_mtime_ns == written
    first = json.loads(result.read_text())

    result.write_text(result.read_text()[:-40])
    done = run_sweep(path, workdir, "--only=*learning_rate=0.1")
    assert done.returncode == 0, done.stderr
    assert f"{result} cannot be read" in done.stderr
    assert "set aside" in done.stderr
    # The same command on the same machine gives the same number.
    assert json.loads(result.read_text())["test_loss"] == pytest.approx(first["test_loss"])

    pytest.importorskip("matplotlib")
    output = tmp_path / "report"
    done = run_sweep(path, workdir, f"--output={output}", module="report")
    assert done.returncode == 0, done.stderr
    assert "| missing | 0 of 1 |" in done.stdout
    assert {p.name for p in output.iterdir()} == {
        f"rates_sweep.{ending}" for ending in ("json", "md", "csv", "png", "svg")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "did you mean table"),
        (["table1", "--only=nothing"], "matches no row"),
        (["table1", "--seeds=a"], "--seeds=a must be whole numbers"),
        (["table1", "--workers=1000"], "--workers=1000 must be within 1 and"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, tmp_path):
    done = run_sweep(arguments[0], tmp_path / "runs", *arguments[1:])
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in catalogue.names() if n != "tuning"])
def test_every_row_of_the_paper_has_the_size_that_it_states(name):
    """On shapes alone."""
    check_sizes(catalogue.load(name, "paper"))


# Read out of a figure, whose width multiplier the paper does not name, and rounded to 0.1M.
ROUNDED = {"resnet50-width_multiplier-width0.33": 0.02, "width_multiplier-7600": 0.01,
           "width_multiplier-29400": 0.01, "width_multiplier-65500": 0.01,
           "width_multiplier-115800": 0.01}  # fmt: skip


@functools.cache
def measured(name: str, options: tuple, hashed: str, num_classes: int, shape: tuple) -> Manifest:
    """Measuring initializers takes most of the time, and is the same for each base model."""
    model = models.create(name, num_classes=num_classes, **dict(options))
    return Manifest.from_model(model, shape, hashed)


def check_sizes(experiment: Experiment) -> None:
    checked = 0
    for row in experiment.rows:
        config = row.build(0)
        options = tuple(sorted(config.model.options.items()))
        info = data.describe(
            config.data.name, None, config.data.image_size, config.data.preprocessing
        )
        manifest = measured(
            config.model.name, options, config.method.hashed, info.num_classes,
            (1, *info.image_shape),
        )  # fmt: skip
        built = run.build(config, manifest, num_devices=32)
        size = built.method.num_variables
        target = config.method.target_size
        if target is not None:
            assert 0.99 * target < size <= target, row.name
        if row.paper and row.paper.size:
            assert size == pytest.approx(row.paper.size, rel=ROUNDED.get(row.name, 0.01)), row.name
            checked += 1
    assert checked or not any(row.paper and row.paper.size for row in experiment.rows)
