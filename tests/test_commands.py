"""Commands refuse what cannot be right: in one line, before anything is written."""

import dataclasses
import errno
import json
import os
import pathlib
import runpy
import shlex
import shutil
import signal
import socket
import sys
import tomllib
import unittest.mock
import urllib.request

import PIL.Image
import pytest
from etils import epath

from experiments.executors import local, process
from smh_jax import cli
from smh_jax.config import to_json_dict
from smh_jax.shipping import artifact
from smh_jax.training import loop
from tests import artifacts
from tests.conftest import ROOT
from tests.small import digits_config

TABLE = tomllib.loads((ROOT / "tests" / "bad_inputs.toml").read_text())
ROWS = [(f"{start} {rest}", error) for start, rows in TABLE.items() for rest, error in rows.items()]


@pytest.fixture(scope="module")
def folder(digits_dir, tmp_path_factory):
    """What the commands are given: a run, models, and files and folders that are neither."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "configs").symlink_to(ROOT / "configs")
    config = digits_config(digits_dir, epochs=1 / 22.453125)
    loop.train_and_evaluate(config, folder / "run")
    artifact.save(folder / "model.smh", artifacts.make())
    artifact.save(folder / "int8.smh", artifacts.make(), precision="int8")
    artifact.save(folder / "own.smh", dataclasses.replace(artifacts.make(), model=None))
    PIL.Image.new("L", (8, 8), 77).save(folder / "image.png")
    for name, content in {
        "a_file": b"text",
        "broken.py": b"def get_config(:\n",
        "no_config.py": b"x = 1\n",
        "unnamed.py": b"def get_config():\n    return no_such_name\n",
        "broken.msgpack": b"\xc1",
        "deep.msgpack": b"\x91" * 100_000,
        "damaged/config.json": b"{",
        "unexplained/checkpoints/4/x": b"",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "empty").mkdir()
    shutil.copytree(folder / "run", folder / "damaged_rows")
    (folder / "damaged_rows" / "metrics.jsonl").write_bytes(b"garbage\n")
    return folder


@pytest.fixture
def run_command(monkeypatch, fresh_flags):
    """Runs a command in this process, as if in one of its own; what it ended with."""
    # Where it is set already, the benchmarks do not start themselves again.
    monkeypatch.setenv("GLIBC_TUNABLES", os.environ.get("GLIBC_TUNABLES", ""))

    def run(command):
        module, *arguments = shlex.split(command)
        path = ROOT / pathlib.Path(*module.split(".")).with_suffix(".py")
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        return ended.value.code

    return run


def contents(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "error"), ROWS, ids=[command for command, _ in ROWS])
def test_bad_inputs(command, error, folder, run_command, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(loop, "_train_batches", None)
    monkeypatch.setattr(
        socket, "getaddrinfo", unittest.mock.Mock(side_effect=OSError("no network"))
    )
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    shutil.rmtree("new", ignore_errors=True)
    before = contents(folder)
    code = run_command(command)
    assert str(code).startswith("error: ")
    assert error in code
    assert "\n" not in code
    assert len(code) < 1000
    assert contents(folder) == before


def test_the_table_is_of_all_commands():
    assert len(ROWS) > 150
    commands = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("smh_jax", "experiments", "benchmarks", "scripts")
        for path in (ROOT / room).glob("*.py")
        if "cli.run(main" in path.read_text()
    }
    assert commands == {start.split()[0] for start in TABLE}


@pytest.mark.parametrize("output", ["model.smh --overwrite", "full.smh"])
def test_a_full_disk_is_named_and_leaves_what_was_there(output, folder, run_command, monkeypatch):
    monkeypatch.chdir(folder)
    full = unittest.mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(type(epath.Path(folder)), "write_bytes", full)
    before = contents(folder)
    code = run_command(f"smh_jax.export --artifact=model.smh --output={output} --noevaluate")
    assert code.startswith("error: No space left on device: what was saved before is not lost")
    assert full.called
    assert contents(folder) == before


@pytest.mark.parametrize(
    "lack",
    [
        pytest.param("np.empty(2**52)", marks=pytest.mark.slow),
        "jnp.zeros(2**45).block_until_ready()",
    ],
)
def test_a_lack_of_memory_is_called_by_its_name(lack, run_python):
    code = (
        f"import jax.numpy as jnp, numpy as np\nfrom smh_jax import cli\ncli.run(lambda _: {lack})"
    )
    done = run_python("-c", code, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: out of memory (")
    assert "a smaller data.batch_size" in line


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    # Set again, to be deleted after the test.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield lambda: os.environ.get("JAX_COMPILATION_CACHE_DIR")
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)


def test_compiled_programs_are_kept_up_to_a_size(cache, tmp_path):
    cli.keep_compiled_programs()
    folder = pathlib.Path(cache())
    assert folder.parent == tmp_path / "smh_jax"
    for age, name in enumerate(("new", "old", "older")):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    # XLA has one there on GPUs.
    (folder / "folder").mkdir()
    os.utime(folder / "folder", (1e8, 1e8))
    os.environ.pop("JAX_COMPILATION_CACHE_DIR")
    cli.keep_compiled_programs(max_bytes=250)
    assert {path.name for path in folder.iterdir()} == {"new", "old", "folder"}
    assert cache() == str(folder)


def test_compiled_programs_are_kept_where_the_user_says_or_nowhere(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    cli.keep_compiled_programs()
    assert cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = "elsewhere"
    cli.keep_compiled_programs()
    assert cache() == "elsewhere"
    assert not (tmp_path / "smh_jax").exists()


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        (["done"], None),
        (["interrupted"], cli.INTERRUPTED),
        (["failed", "done"], None),
        (["failed", "failed"], "error: 1 of 1 runs failed, twice each: "),
    ],
)
def test_the_exit_code_of_an_experiment_says_whether_runs_are_left(
    endings, code, tmp_path, run_command, monkeypatch
):
    def execute(queue, workers):
        for ending in endings:
            job = queue.popleft()
            if ending == "done":
                job.workdir.mkdir(parents=True)
                (job.workdir / "config.json").write_text(json.dumps(to_json_dict(job.config)))
                counts = {"num_variables": 9, "steps": 5, "seed": 0}
                result = counts | {"test_accuracy": 0.5, "train_seconds": 7.0}
                job.result_path.write_text(json.dumps(result))
            message = "why" if ending == "failed" else ""
            yield process.Outcome(job, message, interrupted=ending == "interrupted")

    monkeypatch.setattr(local, "execute", execute)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    path = tmp_path / "one.toml"
    path.write_text('config = "configs/digits.py:depth=8"\n[grid]\nepochs = [0.2]')
    ended = run_command(f"experiments.run {path} --workdir={tmp_path}/runs")
    assert ended == code or str(ended).startswith(str(code))
