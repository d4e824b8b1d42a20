"""The executor on local Ray clusters: of two machines, and of a TPU slice with two hosts."""

import collections
import json
import os
import pathlib
import signal
import threading
import time

import pytest

from experiments import sweep
from experiments.executors import ray as ray_executor
from experiments.executors.process import Outcome
from experiments.experiment import Experiment
from experiments.job import jobs
from experiments.row import Row, TpuSlice
from tests.conftest import ROOT

SWEEP = """
config = "configs/digits.py:depth=8,target_size=1900"
[grid]
optimizer.learning_rate = [0.1, 0.2]
[[list]]
optimizer.learning_rate = 1e9
"""


@pytest.fixture
def start_cluster(monkeypatch):
    """A function that starts a cluster of a head and further nodes."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Workers are started by the cluster, with its environment.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    clusters = []

    def start(*nodes: dict):
        clusters.append(Cluster(initialize_head=True, head_node_args={"num_cpus": 1}))
        for node in nodes:
            clusters[0].add_node(num_cpus=1, **node)
        return clusters[0]

    yield start
    ray.shutdown()
    for cluster in clusters:
        cluster.shutdown()


def processes_in(folder) -> dict[int, int]:
    """Processes that train in a folder, by their number among those of the run."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--workdir=" + os.fsencode(folder) in arguments:
            flags = dict(part.split(b"=", 1) for part in arguments if b"=" in part)
            found[int(flags.get(b"--process_id", 0))] = int(path.parent.name)
    return found


def parent(process: int) -> int:
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


class KillWhenItTrains(threading.Thread):
    """Kills the worker of a process of a job once there is a checkpoint.

    The worker, not the run: Ray loses the task, and the system ends the run.
    """

    def __init__(self, job, process_id=0):
        super().__init__(daemon=True)
        self.killed, self._job, self._process_id = False, job, process_id

    def run(self):
        while not list(self._job.workdir.glob("checkpoints/*")):
            time.sleep(0.2)
        process = processes_in(self._job.workdir)[self._process_id]
        os.kill(parent(process), signal.SIGKILL)
        self.killed = True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_survives_the_loss_of_a_worker(start_cluster, digits_dir, tmp_path):
    cluster = start_cluster({})
    path = tmp_path / "rates.toml"
    beginning = f'[grid]\ndata.data_dir = ["{digits_dir}"]\nepochs = [5.0]\n'
    path.write_text(SWEEP.replace("[grid]", beginning + "checkpoint_every_steps = [10]"))
    experiment = sweep.load(str(path))
    all_jobs = jobs(experiment, tmp_path / "runs", None)
    first = all_jobs[0]
    thread = KillWhenItTrains(first)
    thread.start()
    outcomes = {
        outcome.job: outcome
        for outcome in ray_executor.execute(collections.deque(all_jobs), cluster.address)
    }
    thread.join()
    assert thread.killed
    assert {job: bool(outcome.message) for job, outcome in outcomes.items()} == {
        all_jobs[0]: False,
        all_jobs[1]: False,
        # Diverges, and is reported as what it is.
        all_jobs[2]: True,
    }
    assert (
        "is not finite" in outcomes[all_jobs[2]].message or "nan" in outcomes[all_jobs[2]].message
    )
    # It resumed from a checkpoint, and trained no step twice.
    rows = (first.workdir / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(row)["step"] for row in rows]
    assert steps == sorted(set(steps))
    assert "resuming from step" in first.file_alongside("log").read_text()
    assert "resuming from step" not in all_jobs[1].file_alongside("log").read_text()
    assert first.result()["steps"] == all_jobs[1].result()["steps"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_on_a_slice_has_a_process_on_each_host_and_survives_the_loss_of_one(
    start_cluster, digits_dir, tmp_path
):

    tpu_slice = TpuSlice(version="v4", topology="2x2x2")
    hosts = [
        {
            "resources": {"TPU": 4, **({"TPU-v4-16-head": 1} if host == 0 else {})},
            "labels": {
                "ray.io/tpu-slice-name": "slice-a",
                "ray.io/tpu-pod-type": "v4-16",
                "ray.io/tpu-worker-id": str(host),
            },
            # As on a machine of a slice.
            "env_vars": {"TPU_NAME": "slice-a"},
        }
        for host in range(2)
    ]
    cluster = start_cluster(*hosts)
    row = Row(
        name="slice",
        series="smh",
        group="g",
        config="configs/digits.py:depth=8,target_size=1900",
        overrides={
            "data.data_dir": digits_dir,
            "model.options.width_multiplier": 0.25,
            "epochs": 5.0,
            "checkpoint_every_steps": 10,
        },
        tpu_slice=tpu_slice,
    )
    (job,) = jobs(Experiment("x", "sweep", "t", "q", (row,)), tmp_path, None)
    thread = KillWhenItTrains(job, process_id=1)
    thread.start()
    (outcome,) = ray_executor.execute(collections.deque([job]), cluster.address)
    thread.join()
    assert thread.killed
    assert outcome == Outcome(job)
    assert job.result()["processes"] == 2
    for process_id in range(2):
        log = job.file_alongside("log", process_id).read_text()
        assert log.count(f"process {process_id} of 2 meets the others at") == 2
    assert "resuming from step" in job.file_alongside("log").read_text()
