"""Results of an experiment as they are committed: every row with its runs, as JSON."""

import dataclasses
import json
import pathlib
import shlex
import statistics
from typing import Any

from absl import logging
from etils import epath

from experiments.experiment import Experiment
from experiments.job import CorruptResultError, Job, jobs
from experiments.row import Row
from smh_jax.config.files import write_json

RESULTS = pathlib.Path(__file__).with_name("results")
# The setting that is searched for.
RATE = "optimizer.learning_rate"
# What of a run's result is kept.
_KEPT = (
    "seed", "test_accuracy", "test_loss", "test_examples", "num_variables", "num_weights", "steps",
    "epochs", "train_seconds", "examples_per_second", "devices", "versions", "relative_errors",
    "test_bits_per_character",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Record:
    """A row and results of its runs that are done, with the command that repeats each."""

    row: Row
    runs: tuple[dict[str, Any], ...]

    @property
    def accuracies(self) -> dict[int, float]:
        """In percent, by seed."""
        return {run["seed"]: 100 * run["test_accuracy"] for run in self.runs}

    @property
    def mean(self) -> float | None:
        """Of the accuracies; None without runs."""
        return statistics.fmean(self.accuracies.values()) if self.runs else None

    @property
    def stddev(self) -> float | None:
        """Of the accuracies over seeds (of the sample); None for fewer than two runs."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else None

    @property
    def bits_per_character(self) -> list[float]:
        """Of the runs that predict characters."""
        name = "test_bits_per_character"
        return [run[name] for run in self.runs if name in run]

    @property
    def size(self) -> int | None:
        """Variables that were trained; None without runs."""
        return self.runs[0]["num_variables"] if self.runs else None

    @property
    def steps(self) -> int | None:
        """Steps of training; None without runs."""
        return self.runs[0]["steps"] if self.runs else None

    @property
    def exports(self) -> list[tuple[str, float, float, float | None]]:
        """Of exported files: precision, mean bytes, mean accuracy and its deviation in percent.

        Those of which every run has one. The deviation of one run is None.
        """
        exports = []
        for precision in self.runs[0]["exports"] if self.runs else ():
            files = [run["exports"].get(precision) for run in self.runs]
            if None in files:
                continue
            accuracies = [100 * file["accuracy"] for file in files]
            deviation = statistics.stdev(accuracies) if len(files) > 1 else None
            mean_bytes = statistics.fmean(file["bytes"] for file in files)
            exports.append((precision, mean_bytes, statistics.fmean(accuracies), deviation))
        return exports


def collect(experiment: Experiment, workdir: epath.Path) -> tuple[Record, ...]:
    """Reads the results of an experiment's runs, and measures the exports that its rows ask for.

    Results that cannot be counted are named in the log and left out. The workdir is that of
    `experiments.run`.
    """
    runs: dict[Row, list[dict[str, Any]]] = {row: [] for row in experiment.rows}
    for job in [*jobs(experiment, workdir, None), *_of_other_seeds(experiment, workdir)]:
        try:
            result = job.result()
            if result is not None:
                run = _run(job, result, f"runs/{experiment.folder}")
                runs[job.row].append(run)
                for row in experiment.rows:
                    if row.size_of == job.row.name:
                        runs[row].append(run | _of_part(result, row))
        except CorruptResultError as error:
            logging.warning("left out: %s", error)
    return tuple(Record(row, tuple(results)) for row, results in runs.items())


def _of_other_seeds(experiment: Experiment, workdir: epath.Path) -> list[Job]:
    """Runs of seeds that were asked for in place of the rows' own (`experiments.run --seeds`)."""
    folder = epath.Path(workdir) / experiment.folder
    return [
        Job(row, int(path.name[4:]), folder)
        for row in experiment.rows
        for path in sorted((folder / row.name).glob("seed*"))
        if path.name[4:].isdecimal() and int(path.name[4:]) not in row.seeds
    ]


def _run(job: Job, result: dict[str, Any], folder: str) -> dict[str, Any]:
    """What is kept of a run, with the command that repeats it in another folder."""
    run = {name: result[name] for name in _KEPT if name in result}
    # A conversion trains nothing: its accuracy is that of the generated weights as they are.
    precisions = job.row.precisions or (("float32",) if job.row.convert_from else ())
    if precisions:
        run["exports"] = _exports(job.workdir, precisions)
    if job.row.convert_from:
        accuracy = run["exports"]["float32"]["accuracy"]
        run |= {"seed": job.seed, "test_accuracy": accuracy, "steps": 0, "train_seconds": 0.0}
    return run | {"command": shlex.join(job.row.command(job.seed, folder))}


def _of_part(result: dict[str, Any], row: Row) -> dict[str, Any]:
    """What a size or a task of a run has in place of the whole run's, but no time of its own.

    The variables of a task are its share of all.
    """
    if row.task:
        (part,) = (task for task in result["tasks"] if task["task"] == row.task)
        num_variables = result["num_variables"] // len(result["tasks"])
    else:
        (part,) = (size for size in result["sizes"] if size["size"] == row.elastic_size)
        num_variables = part["num_variables"]
    measured = {
        f"test_{name}": part[name] for name in ("accuracy", "loss", "examples") if name in part
    }
    return measured | {"num_variables": num_variables, "train_seconds": 0.0}


def _exports(workdir: epath.Path, precisions: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Bytes and test accuracy of a run's exported file, by precision of its pools."""
    # They need all of the trainer, which other reports do without.
    from smh_jax.shipping import artifact as artifacts
    from smh_jax.shipping import from_run

    artifact = from_run.read_artifact(workdir)
    dataset = from_run.dataset_of(artifact, None)
    measured = {}
    for precision in precisions:
        rounded = from_run.with_accuracy(artifact.at(precision), dataset)
        size = len(artifacts.encode(rounded))
        measured[precision] = {"bytes": size, "accuracy": rounded.accuracy["accuracy"]}
    return measured


def path_of(experiment: Experiment, folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """Where a report of an experiment lies."""
    return folder / f"{experiment.name}_{experiment.scale}{suffix}"


def write(experiment: Experiment, records: tuple[Record, ...], path: pathlib.Path) -> None:
    """Writes the results as JSON, with what the rows say of them."""
    content: dict[str, Any] = {"experiment": experiment.name}
    content |= {name: getattr(experiment, name) for name in ("scale", "title", "question")}
    content["rows"] = [
        {name: getattr(record.row, name) for name in ("name", "series", "group")}
        | {"settings": dict(record.row.overrides), "runs": record.runs}
        for record in records
    ]
    write_json(path, content)


def read(experiment: Experiment, path: pathlib.Path) -> tuple[Record, ...]:
    """Reads what `write` wrote of an experiment's rows.

    Raises:
        ValueError: if there is no such file, or it is something else.
    """
    try:
        runs = {row["name"]: tuple(row["runs"]) for row in json.loads(path.read_text())["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no results that can be reported: {error!r}") from error
    return tuple(Record(row, runs.get(row.name, ())) for row in experiment.rows)
