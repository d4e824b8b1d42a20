"""The executor on a local Ray cluster of two machines with one core each."""

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
from experiments.job import jobs
from tests.conftest import ROOT

SWEEP = """
config = "configs/digits.py:depth=8,target_size=1900"
[grid]
optimizer.learning_rate = [0.1, 0.2]
[[list]]
optimizer.learning_rate = 1e9
"""


@pytest.fixture
def cluster(monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Workers are started by the cluster, with its environment.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def processes_in(folder) -> list[int]:
    """Processes that train in a folder: what holds a run's lock."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--workdir=" + os.fsencode(folder) in arguments:
            found.append(int(path.parent.name))
    return found


def parent(process: int) -> int:
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_survives_the_loss_of_a_worker(cluster, digits_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    path = tmp_path / "rates.toml"
    beginning = f'[grid]\ndata.data_dir = ["{digits_dir}"]\nepochs = [20.0]\n'
    path.write_text(SWEEP.replace("[grid]", beginning + "checkpoint_every_steps = [20]"))
    experiment = sweep.load(str(path))
    all_jobs = jobs(experiment, tmp_path / "runs", None)
    first = all_jobs[0]
    killed = []

    def kill_when_it_trains() -> None:
        # The worker, not the run: Ray loses the task, and the run is told to end by its system.
        while not list(first.workdir.glob("checkpoints/*")):
            time.sleep(0.2)
        (process,) = processes_in(first.workdir)
        worker = parent(process)
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    thread = threading.Thread(target=kill_when_it_trains)
    thread.start()
    outcomes = {
        outcome.job: outcome
        for outcome in ray_executor.execute(collections.deque(all_jobs), cluster.address)
    }
    thread.join()
    assert killed
    assert {job: bool(outcome.message) for job, outcome in outcomes.items()} == {
        all_jobs[0]: False,
        all_jobs[1]: False,
        # Diverges, and is reported as what it is.
        all_jobs[2]: True,
    }
    assert (
        "is not finite" in outcomes[all_jobs[2]].message or "nan" in outcomes[all_jobs[2]].message
    )
    # It went on from a checkpoint, and trained no step twice.
    rows = (first.workdir / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(row)["step"] for row in rows]
    assert steps == sorted(set(steps))
    assert "going on from step" in (first.workdir / "log.txt").read_text()
    assert "going on from step" not in (all_jobs[1].workdir / "log.txt").read_text()
    assert first.result()["steps"] == all_jobs[1].result()["steps"]
