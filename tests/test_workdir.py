"""The folder of a run, on a disk and in a bucket."""

import dataclasses
import json
import os
import socket
import threading
import time
import unittest.mock

import pytest
import tensorflow_datasets as tfds
from clu import metric_writers
from etils import epath

from configs import digits
from smh_jax import Manifest, data, models
from smh_jax.config import buckets, from_config_dict
from smh_jax.config.files import read_json_with_digest
from smh_jax.training import lease, metrics_file, rows
from smh_jax.training.progress import Progress
from smh_jax.training.workdir import Workdir


@pytest.fixture(scope="module")
def manifest():
    # Made outside of the mocked bucket, which would hide JAX's compilation cache from JAX.
    return Manifest.from_model(models.create("cifar_resnet8", num_classes=10), (1, 8, 8, 1))


@pytest.fixture(params=["disk", "bucket"])
def workdir(request, tmp_path, monkeypatch):
    # TensorBoard's files are written below Python.
    monkeypatch.setattr(
        metric_writers, "SummaryWriter", lambda _: metric_writers.LoggingWriter(collection="events")
    )
    if request.param == "disk":
        yield Workdir(tmp_path / "run")
    else:
        with tfds.testing.MockFs():
            yield Workdir("gs://bucket/runs/run")


def test_a_run_is_described_measured_and_goes_on(manifest, workdir):
    config = from_config_dict(digits.get_config("depth=8"))
    assert workdir.check(config) is None
    assert workdir.result() is None
    workdir.describe(config, manifest)
    assert workdir.check(config) == manifest
    path = workdir.path / "metrics.jsonl"
    writer = rows.row_writer(workdir.path, b"", Progress(9, 3.0, 8))
    for step in range(1, 6):
        writer.write_scalars(step, {"train_loss": 1.0 / step})
        writer.flush()
    kept = metrics_file.rows_until(path, 3, None)
    writer = rows.row_writer(workdir.path, kept, Progress(9, 3.0, 8))
    writer.write_scalars(4, {"train_loss": 7.0})
    writer.flush()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[-1])["train_loss"] == 7.0
    workdir.write_result({"steps": 5})
    workdir.write_result({"steps": 6})
    assert workdir.result() == {"steps": 6}
    assert read_json_with_digest(workdir.path / "result.1.json") == {"steps": 5}
    workdir.describe(dataclasses.replace(config, epochs=80.0), manifest)
    assert (workdir.path / "config.1.json").exists()
    with pytest.raises(ValueError, match="seed: 0 there, 1 here"):
        workdir.check(dataclasses.replace(config, seed=1))


def test_a_run_that_began_with_other_options_resumes(manifest, workdir):
    config = from_config_dict(digits.get_config("depth=8"))
    workdir.describe(config, manifest)
    path = workdir.path / "config.json"
    content = read_json_with_digest(path)
    content["method"]["options"]["pool_dtype"] = "float32"
    del content["model"]["options"]["input_resolution"]
    path.write_text(json.dumps(content))
    assert workdir.check(config) == manifest
    # The default is not what this run wants.
    options = {**config.model.options, "input_resolution": 32}
    with pytest.raises(ValueError, match="input_resolution: 0 there, 32 here"):
        workdir.check(
            dataclasses.replace(config, model=dataclasses.replace(config.model, options=options))
        )
    content["method"]["options"]["pool_dtype"] = "bfloat16"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="option 'pool_dtype' of method smh is unknown"):
        workdir.check(config)


def test_a_bucket_that_cannot_be_reached(monkeypatch):
    def exists(_):
        raise RuntimeError("Could not resolve host:\n www.googleapis.com")

    workdir = Workdir("gs://bucket/run")
    monkeypatch.setattr(buckets, "_HOSTS", {})
    monkeypatch.setattr(type(workdir.path), "exists", exists)
    with pytest.raises(ValueError, match=r"gs://bucket/run cannot be reached: Could .* host: www"):
        workdir.check_usable()


@pytest.mark.parametrize("answer", ["none", "no such host"])
def test_a_bucket_without_a_network(answer, monkeypatch):
    asked = threading.Event()

    def getaddrinfo(*_, **__):
        if answer == "none":
            asked.wait(20)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(buckets, "SECONDS", 0.2)
    monkeypatch.setattr(buckets.urllib.request, "getproxies", dict)
    reason = "no answer within 0.2 seconds" if answer == "none" else ".*Name or service not known"
    message = rf"=gs://bucket/run cannot be reached: storage.googleapis.com: {reason}; check the n"
    begin = time.monotonic()
    for function in (Workdir.check_usable, Workdir.read):
        with pytest.raises(ValueError, match=f"^workdir{message}"):
            function(Workdir("gs://bucket/run"))
    with pytest.raises(ValueError, match=f"^data.data_dir{message}"):
        data.describe("digits", "gs://bucket/run")
    assert time.monotonic() - begin < 5
    asked.set()
    # Whoever is behind a proxy is not known from here.
    monkeypatch.setattr(buckets.urllib.request, "getproxies", lambda: {"https": "http://proxy"})
    buckets.check_reachable("gs://bucket/run", "workdir")


def test_a_bucket_that_answers(monkeypatch):
    with socket.create_server(("localhost", 0)) as server:
        monkeypatch.setattr(buckets, "_HOSTS", {"gs": "localhost"})
        monkeypatch.setattr(buckets, "_PORT", server.getsockname()[1])
        buckets.check_reachable("gs://bucket/run", "workdir")


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"/run cannot be used: {tmp_path} is read-only"):
        Workdir(tmp_path / "run").check_usable()


def held(folder, seconds=0.6):
    """A lease in a folder, and what it was told when it lost it."""
    lost = []
    return lease.leased(folder / "lease", seconds, lost.append), lost


def test_a_lease_is_renewed_and_given_back(workdir):
    workdir.path.mkdir(parents=True)
    first, lost = held(workdir.path)
    with first:
        content = json.loads((workdir.path / "lease").read_text())
        assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
        second, _ = held(workdir.path)
        with (
            pytest.raises(ValueError, match=rf"in use by process {os.getpid()} on .* since 20"),
            second,
        ):
            pass
    assert not lost
    assert not (workdir.path / "lease").exists()
    again, _ = held(workdir.path)
    begin = time.monotonic()
    with again:
        assert time.monotonic() - begin < 0.5


def test_a_lease_of_a_process_that_died_is_taken_over(workdir):
    workdir.path.mkdir(parents=True)
    # Whatever its clock said.
    there = {"id": "other", "pid": 1, "host": "gone", "since": "2999-01-01", "beat": 7}
    (workdir.path / "lease").write_text(json.dumps(there))
    begin = time.monotonic()
    mine, lost = held(workdir.path)
    with mine:
        assert 0.6 <= time.monotonic() - begin < 2
        assert json.loads((workdir.path / "lease").read_text())["pid"] == os.getpid()
        # The process was only stopped, and does the same to this one.
        (workdir.path / "lease").write_text(json.dumps(there))
        deadline = time.monotonic() + 5
        while not lost and time.monotonic() < deadline:
            time.sleep(0.02)
    (line,) = lost
    assert "in use by process 1 on gone since 2999-01-01, not by this process any more" in line
    assert json.loads((workdir.path / "lease").read_text()) == there


def test_a_lease_that_cannot_be_renewed_ends_the_process(tmp_path, monkeypatch):
    mine, lost = held(epath.Path(tmp_path))
    with mine:
        failing = unittest.mock.Mock(side_effect=RuntimeError("503\nService Unavailable"))
        monkeypatch.setattr(type(epath.Path(tmp_path)), "read_text", failing)
        deadline = time.monotonic() + 5
        while not lost and time.monotonic() < deadline:
            time.sleep(0.02)
        monkeypatch.undo()
    assert failing.call_count > 2
    assert lost == [f"error: {tmp_path / 'lease'} could not be renewed: 503 Service Unavailable"]


def test_a_bucket_is_leased_and_a_disk_is_locked(workdir, monkeypatch):
    monkeypatch.setattr(lease, "leased", unittest.mock.MagicMock())
    with workdir.locked():
        pass
    in_bucket = os.fspath(workdir.path).startswith("gs://")
    assert lease.leased.called == in_bucket
    assert (workdir.path / "lock").exists() != in_bucket
