"""Runs of several processes: the numbers of one, every example once, and how they end."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import signal
import socket
import time
import types

import jax
import numpy as np
import pytest

from smh_jax import config as configs
from smh_jax import data
from smh_jax.config.errors import PeerError
from smh_jax.config.files import read_json_with_digest
from smh_jax.training import peers, processes
from tests.small import digits_config
from tests.test_train import assert_equal_states, final_state, rows, saved_steps

NUM_STEPS = 23
NUM_EXAMPLES = 1437

# The ordinary command, which notes the examples that it sees, and after some steps may wait for
# permission to go on.
WORKER = """
import hashlib, json, pathlib, sys, time
from smh_jax import cli, data, main
from smh_jax.training import processes

seen, hold_from = pathlib.Path(sys.argv.pop(1)), int(sys.argv.pop(1))
processes._TIMEOUTS["heartbeat_timeout_seconds"] = int(sys.argv.pop(1))
train_batches = data.train_batches

def noted(*args, first_step, **options):
    batches = train_batches(*args, first_step=first_step, **options)
    for step, batch in enumerate(batches, start=first_step + 1):
        rows = [hashlib.sha1(image.tobytes()).hexdigest() for image in batch["image"]]
        with seen.open("a") as file:
            file.write(json.dumps({"step": step, "rows": rows}) + "\\n")
        while step > hold_from and not seen.with_suffix(".go").exists():
            time.sleep(0.1)
        yield batch

data.train_batches = noted
cli.run(main.main)
"""


def start(
    start_python, config, folder, *, num_processes, devices, name, hold_from=100, heartbeat=60
):
    """Starts all processes of a run with this configuration in `folder/name`."""
    (folder / "config.json").write_text(json.dumps(configs.to_json_dict(config)))
    (folder / "config.py").write_text(
        "import json, pathlib\n"
        "from smh_jax import config\n"
        "def get_config():\n"
        "    content = (pathlib.Path(__file__).parent / 'config.json').read_text()\n"
        "    return config.to_config_dict(config.from_config_dict(json.loads(content)))\n"
    )
    together = [
        f"--coordinator_address=localhost:{free_port()}",
        f"--num_processes={num_processes}",
    ]
    return [
        start_python(
            *("-c", WORKER, str(folder / f"{name}.seen{process}"), str(hold_from), str(heartbeat)),
            *(f"--config={folder / 'config.py'}", f"--workdir={folder / name}"),
            *([*together, f"--process_id={process}"] if num_processes > 1 else []),
            devices=devices,
        )
        for process in range(num_processes)
    ]


def finish(running, seconds=600):
    """Return codes, outputs and errors of all processes, when they have ended."""
    ends = [process.communicate(timeout=seconds) for process in running]
    return [process.returncode for process in running], ends


def wait_for_checkpoint(workdir, step, running):
    deadline = time.monotonic() + 600
    while not any(saved >= step for saved in saved_steps(workdir)):
        assert time.monotonic() < deadline, "no checkpoint"
        for process in running:
            assert process.poll() is None, process.communicate()[1][-4000:]
        time.sleep(0.05)


def seen(folder, name, process):
    """The rows of every step, the latest where a step was taken twice."""
    lines = (folder / f"{name}.seen{process}").read_text().splitlines()
    return {entry["step"]: entry["rows"] for entry in map(json.loads, lines)}


@pytest.fixture(scope="module")
def scenario(digits_dir, start_python, tmp_path_factory):
    """One undisturbed process with four devices, and two with two, one of which is killed.

    The pair is started again, under the other backend. All pass once through the data, and a little
    further.
    """
    folder = tmp_path_factory.mktemp("processes")
    config = digits_config(
        digits_dir,
        batch_norm="synced",
        data__augmentation="none",
        epochs=NUM_STEPS / (NUM_EXAMPLES / 64),
        log_every_steps=1,
        optimizer__ema_decay=0.99,
    )
    launch = functools.partial(start, start_python, config, folder)
    alone = launch(num_processes=1, devices=4, name="alone")
    codes, ends = finish(alone)
    assert codes == [0], ends[0][1][-4000:]
    pair = launch(num_processes=2, devices=2, name="pair", hold_from=12, heartbeat=10)
    wait_for_checkpoint(folder / "pair", 8, pair)
    pair[1].send_signal(signal.SIGKILL)
    (folder / "pair.go").touch()
    killed = finish(pair)
    saved = saved_steps(folder / "pair")[-1]
    parallel = dataclasses.replace(config.parallel, backend="shard_map")
    resumed = dataclasses.replace(config, parallel=parallel)
    pair = start(start_python, resumed, folder, num_processes=2, devices=2, name="pair")
    codes, ends = finish(pair)
    assert codes == [0, 0], ends[0][1][-4000:] + ends[1][1][-4000:]
    return types.SimpleNamespace(
        folder=folder, config=config, killed=killed, saved=saved, ends=ends
    )


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(scenario):
    alone, pair = (rows(scenario.folder / name) for name in ("alone", "pair"))
    assert [row["step"] for row in pair] == list(range(1, NUM_STEPS + 1))
    for one, two in zip(alone, pair, strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - {"steps_per_second"}:
            assert two[name] == pytest.approx(one[name], rel=1e-5), (name, one["step"])
    losses = [row["train_loss"] for row in alone]
    assert max(losses) > 1.02 * min(losses)
    assert pair[-1]["test_examples"] == 360


@pytest.mark.slow
def test_two_processes_leave_the_checkpoint_of_one(scenario):
    alone, pair = (final_state(scenario.folder / name) for name in ("alone", "pair"))
    assert alone.keys() == pair.keys()
    assert any("ema" in name for name in alone)
    for name, leaf in alone.items():
        np.testing.assert_allclose(pair[name], leaf, rtol=1e-4, atol=1e-6, err_msg=name)
    assert alone["['step']"] == NUM_STEPS


@pytest.mark.slow
def test_every_example_is_seen_once_per_epoch(scenario, digits_dir):
    alone = seen(scenario.folder, "alone", 0)
    pair = [seen(scenario.folder, "pair", process) for process in (0, 1)]
    for step in range(1, NUM_STEPS + 1):
        assert len(pair[0][step]) == len(pair[1][step]) == 32
        assert pair[0][step] + pair[1][step] == alone[step]
    stream = [row for step in sorted(alone) for row in alone[step]]
    epoch = collections.Counter(stream[:NUM_EXAMPLES])
    split = data.load(data.describe("digits", digits_dir), "train", digits_dir)
    distinct = collections.Counter(image.tobytes() for image in split.images)
    assert sorted(epoch.values()) == sorted(distinct.values())
    assert len(epoch) > 1400


@pytest.mark.slow
def test_a_killed_process_ends_the_other(scenario):
    (survivor, killed), ends = scenario.killed
    assert killed == -signal.SIGKILL
    assert survivor not in (0, None)
    errors = ends[0][1]
    ours = "error: process 0 of 2 cannot continue: another one has ended"
    heartbeat = "Terminating process because the JAX distributed service detected fatal errors"
    assert ours in errors or heartbeat in errors, errors[-4000:]
    assert 8 <= scenario.saved < NUM_STEPS


@pytest.mark.slow
def test_files_are_written_once(scenario):
    workdir = scenario.folder / "pair"
    result = read_json_with_digest(workdir / "result.json")
    assert (result["processes"], result["devices"]) == (2, "4 cpu")
    assert not (workdir / "result.1.json").exists()
    # Of each start one file of events.
    assert len(list(workdir.glob("events.*"))) == 2
    printed = scenario.ends[0][0]
    assert json.loads(printed[printed.index("{") :]) == result
    assert "test_accuracy" not in scenario.ends[1][0]
    assert "resuming from step" not in scenario.ends[1][1]
    assert f"resuming from step {scenario.saved}" in scenario.ends[0][1]


@pytest.mark.slow
def test_a_pair_that_has_ended_is_not_repeated(scenario, start_python):
    before = (scenario.folder / "pair" / "metrics.jsonl").read_bytes()
    launch = functools.partial(start, start_python, scenario.config, scenario.folder)
    again = launch(num_processes=2, devices=2, name="pair")
    assert finish(again)[0] == [0, 0]
    assert (scenario.folder / "pair" / "metrics.jsonl").read_bytes() == before


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def answers_of_a_roll_call(num_processes, *present, seconds):
    """What the processes that are present hear, each in a thread; None if all came."""
    port = free_port()

    def call(process):
        try:
            peers.roll_call("localhost", port, num_processes, process, seconds)
        except PeerError as error:
            return str(error).replace(str(port), "PORT")

    with concurrent.futures.ThreadPoolExecutor() as threads:
        return list(threads.map(call, present))


def test_all_processes_come():
    # The last one to be started is process 0, which the others wait for.
    assert answers_of_a_roll_call(3, 2, 1, 0, seconds=20) == [None] * 3


def test_processes_that_do_not_come_are_named():
    missing = "cannot begin: process 1 and process 3 did not come to port PORT within 0.5 seconds"
    assert answers_of_a_roll_call(5, 0, 2, 4, seconds=0.5) == [
        f"process {process} of 5 {missing}" for process in (0, 2, 4)
    ]
    missing = "cannot begin: process 0 did not come to localhost:PORT within 0.5 seconds"
    assert answers_of_a_roll_call(2, 1, seconds=0.5) == [f"process 1 of 2 {missing}"]


def test_a_roll_call_does_not_mind_strangers():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        called = threads.submit(peers.roll_call, "localhost", port, 2, 0, 20)
        for words in (b"GET / HTTP/1.1", b"17", b""):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    with socket.create_connection(("localhost", port)) as stranger:
                        stranger.sendall(words)
                    break
        assert not called.done()
        peers.roll_call("localhost", port, 2, 1, 20)
        called.result(20)


def test_a_run_that_has_begun_without_a_process():
    with socket.create_server(("localhost", 0)) as jax_service:
        port = jax_service.getsockname()[1]
        with concurrent.futures.ThreadPoolExecutor() as threads:
            called = threads.submit(peers.roll_call, "localhost", port, 3, 2, 20)
            with jax_service.accept()[0] as connection:
                connection.sendall(b"\x00\x00\x12\x04\xff")
            with pytest.raises(PeerError, match=r"process 2 of 3 .* has begun without it"):
                called.result(20)


WATCHED = """
import sys, time
from smh_jax.training import processes
processes.HEARTBEAT_SECONDS = 3
processes.initialize(sys.argv[1], 3, int(sys.argv[2]))
print("all are here", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 2])
def test_a_process_that_does_not_answer_ends_the_others(stopped, start_python):
    address = f"localhost:{free_port()}"
    running = [
        start_python("-c", WATCHED, address, str(process), "60", devices=1) for process in range(3)
    ]
    deadline = time.monotonic() + 60
    while not all(process.said("all are here") for process in running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The threads of JAX and ours have begun.
    time.sleep(1)
    running[stopped].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    for number in {0, 1, 2} - {stopped}:
        _, errors = running[number].communicate(timeout=30)
        assert running[number].returncode == 1
        assert errors.splitlines()[-1] == (
            f"error: process {number} of 3 cannot continue: process {stopped} has not answered "
            "for 3 seconds; the same commands resume from the last checkpoint"
        )
    assert 2 < time.monotonic() - begin < 8
    running[stopped].send_signal(signal.SIGKILL)
    running[stopped].communicate()


@pytest.mark.slow
def test_processes_that_end_at_different_times(start_python):
    address = f"localhost:{free_port()}"
    running = [
        start_python("-c", WATCHED, address, str(process), str(2.5 * process), devices=1)
        for process in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", 2, None), "several processes need --process_id, too"),
        ((None, 2, 0), "several processes need --coordinator_address, too"),
        (("host:1", 2, 2), "--process_id=2 must be one of 0 to 1 for --num_processes=2"),
        (("host", 2, 0), "--coordinator_address=host must be host:port"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.initialize(*arguments)


def test_no_arguments_are_a_single_process():
    processes.initialize()
    assert not jax.distributed.is_initialized()


def test_numbers_of_processes_and_devices_that_do_not_fit(monkeypatch):
    device = collections.namedtuple("device", "process_index")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="--num_processes=3, but process 0 was started for 2"):
        processes._check_devices(3)
    monkeypatch.setattr(jax, "devices", lambda: [device(0), device(0), device(1)])
    with pytest.raises(ValueError, match="the 2 processes have 2, 1 devices"):
        processes._check_devices(2)
    monkeypatch.setattr(jax, "devices", lambda: [device(0), device(1)])
    processes._check_devices(2)


def test_processes_that_disagree(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    gather = processes.multihost_utils
    monkeypatch.setattr(gather, "process_allgather", lambda own: np.stack([own, own, own]))
    processes.check_same("the configuration", "a")
    monkeypatch.setattr(gather, "process_allgather", lambda own: np.stack([own, own, own + 1]))
    with pytest.raises(ValueError, match="the configuration is not the same in all 3 processes: d"):
        processes.check_same("the configuration", "a")


def test_a_lack_of_memory_is_no_dead_peer(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for status, kind in (
        ("UNAVAILABLE: connection reset", PeerError),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", jax.errors.JaxRuntimeError),
    ):
        with pytest.raises(kind, match=status), processes.failures_of_peers():
            raise jax.errors.JaxRuntimeError(status)


@pytest.mark.slow
def test_a_pair_of_which_one_is_told_to_end(digits_dir, start_python, tmp_path):
    config = digits_config(digits_dir, batch_norm="synced", epochs=40 / (NUM_EXAMPLES / 64))
    launch = functools.partial(start, start_python, config, tmp_path, num_processes=2, devices=2)
    pair = launch(hold_from=12, name="pair")
    wait_for_checkpoint(tmp_path / "pair", 8, pair)
    pair[1].send_signal(signal.SIGTERM)
    (tmp_path / "pair.go").touch()
    codes, ends = finish(pair)
    assert codes == [75, 75], ends[0][1][-4000:] + ends[1][1][-4000:]
    assert "told to end: saved at step" in ends[0][1]
    at = saved_steps(tmp_path / "pair")[-1]
    assert 8 <= at < 40
    for name in ("pair", "undisturbed"):
        codes, ends = finish(launch(name=name))
        assert codes == [0, 0], ends[0][1][-4000:]
    assert_equal_states(final_state(tmp_path / "pair"), final_state(tmp_path / "undisturbed"))
