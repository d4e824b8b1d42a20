"""Disturbs runs, each several times, until they end: python -m tests.chaos --runs=100 --seed=0

A run is a few steps of a tiny model on digits, on a small disk of its own (a tmpfs, which takes
root; a limit on the size of files otherwise). Between and during its starts it is killed, told to
end, stopped for a while, started twice, its disk fills, and a random one of its saved files loses
its end or has a bit flipped. Every start must end well or with one line that says what is wrong;
when the damage of a file that was refused is undone, the run must end with every number of an
undisturbed one.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from smh_jax import data
from smh_jax.config.files import read_json_with_digest
from tests import conftest, forks
from tests.small import digits_config, write_config_file
from tests.test_train import final_state, numbers, rows

_STEPS_PER_EPOCH = 22.453125
# The ordinary command with a model that is traced in less time than those that have names.
_COMMAND = """
from smh_jax import cli, main, models
from tests.small import TwoLayers

def create(name, num_classes, axis_name, **_):
    return TwoLayers(num_classes, axis_name)

models.create = create
cli.run(main.main)
"""
_DISK = 32 * 2**20
_SECONDS = 300
# How a start may end: done, refused, told to end; or by the signal.
_DONE, _REFUSED, _TOLD = 0, 1, 75


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclasses.dataclass
class Trial:
    """A run that is disturbed: where it is, and what has happened to it."""

    workdir: pathlib.Path
    start: Callable[[], forks.Process]
    random: random.Random
    seconds: float
    events: list[str] = dataclasses.field(default_factory=list)
    undamaged: dict[pathlib.Path, bytes] = dataclasses.field(default_factory=dict)

    def wait(self, process: forks.Process) -> None:
        """Until a random moment of an undisturbed run, or the end of this one."""
        process.poll(self.random.uniform(0, self.seconds))

    def end(self, process: forks.Process, *expected: int) -> str:
        """What the process says on its end, which must be one of the expected ones."""
        try:
            _, errors = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"still there after {_SECONDS} seconds: {error.stderr[-2000:]}") from error
        code, last = process.returncode, errors.strip().rpartition("\n")[2]
        self.events.append(
            {_DONE: "done", _TOLD: "told"}.get(code, last if code == 1 else f"{code}")
        )
        if code not in (_DONE, _REFUSED, _TOLD, *expected) or "Traceback" in errors:
            raise Broken(f"exit code {code}: {errors[-3000:]}")
        if code == _REFUSED and not (expected == (_REFUSED,) and last.startswith("error: ")):
            if not self.undamaged or not last.startswith("error: "):
                raise Broken(f"refused: {errors[-3000:]}")
            self.mend()
        return last

    def mend(self) -> None:
        """Undoes the damage of files that were refused."""
        for path, content in self.undamaged.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.undamaged.clear()


def send(process: forks.Process, number: int) -> None:
    """Sends a signal, unless the process has ended by now."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def kill(trial: Trial) -> None:
    process = trial.start()
    trial.wait(process)
    send(process, signal.SIGKILL)
    trial.end(process, -signal.SIGKILL)


def tell_to_end(trial: Trial) -> None:
    process = trial.start()
    trial.wait(process)
    send(process, signal.SIGTERM)
    # Before training begins, nobody listens.
    trial.end(process, -signal.SIGTERM)


def stop(trial: Trial) -> None:
    process = trial.start()
    for _ in range(trial.random.randint(1, 3)):
        trial.wait(process)
        send(process, signal.SIGSTOP)
        time.sleep(trial.random.uniform(0.05, 0.5))
        send(process, signal.SIGCONT)
    send(process, signal.SIGKILL)
    trial.end(process, -signal.SIGKILL)


def start_twice(trial: Trial) -> None:
    first = trial.start()
    if trial.random.random() < 0.7:
        trial.wait(first)
    second = trial.start()
    for process in (first, second):
        last = trial.end(process, _REFUSED)
        if process.returncode == _REFUSED and "is in use by process" not in last:
            raise Broken(f"two trainers: {last}")
    if first.returncode == second.returncode == _REFUSED:
        raise Broken("both trainers were refused")


def fill_disk(trial: Trial) -> None:
    process = trial.start()
    trial.wait(process)
    left = trial.random.choice([0, 1, 4096, 20_000, 200_000])
    filler = trial.workdir.parent / "filler"
    if os.path.ismount(trial.workdir.parent):
        disk = os.statvfs(filler.parent)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            file.write(bytes(max(0, disk.f_bavail * disk.f_frsize - left)))
    elif process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (left, left))
    last = trial.end(process, _REFUSED)
    filler.unlink(missing_ok=True)
    if process.returncode == _REFUSED and not any(
        words in last for words in ("No space left", "File too large")
    ):
        raise Broken(f"a full disk is not named: {last}")


def flip_a_bit(trial: Trial) -> None:
    def flipped(content: bytes) -> bytes:
        position = trial.random.randrange(8 * len(content))
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        return bytes(changed)

    _damage(trial, flipped)


def truncate(trial: Trial) -> None:
    _damage(trial, lambda content: content[: trial.random.randrange(len(content))])


def _damage(trial: Trial, change: Callable[[bytes], bytes]) -> None:
    """Changes a random file of the run, of those that are read again; kills a first start."""
    if not trial.workdir.exists() or trial.random.random() < 0.5:
        kill(trial)
    files = [
        path
        for path in sorted(trial.workdir.rglob("*"))
        if path.is_file() and path.stat().st_size and not path.name.startswith("events.")
    ]
    if not files:
        return
    # Each kind of file as often as the others: most are parts of checkpoints.
    kinds = sorted({path.name for path in files})
    kind = trial.random.choice(kinds)
    path = trial.random.choice([path for path in files if path.name == kind])
    content = path.read_bytes()
    trial.undamaged[path] = content
    path.write_bytes(change(content))
    trial.events.append(str(path.relative_to(trial.workdir)))
    process = trial.start()
    trial.end(process)
    trial.undamaged.clear()


DISTURBANCES = (kill, tell_to_end, stop, start_twice, fill_disk, flip_a_bit, truncate)


def compare(workdir: pathlib.Path, undisturbed: pathlib.Path) -> None:
    """Raises Broken unless both hold the same numbers, bit for bit."""
    for what, read in (("result", _result), ("rows", _rows)):
        here, there = read(workdir), read(undisturbed)
        if here != there:
            raise Broken(f"another {what}: {here} instead of {there}")
    here, there = final_state(workdir), final_state(undisturbed)
    if differing := [
        name for name in here.keys() | there.keys()
        if name not in here or name not in there or not np.array_equal(here[name], there[name])
    ]:  # fmt: skip
        raise Broken(f"another state: {differing[:3]}")


def _result(workdir: pathlib.Path) -> dict:
    return numbers(read_json_with_digest(workdir / "result.json"))


def _rows(workdir: pathlib.Path) -> list[dict]:
    return [row | {"steps_per_second": 0} for row in rows(workdir)]


@contextlib.contextmanager
def small_disk(folder: pathlib.Path):
    """A small file system at a folder, where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run_trial(trial: Trial, disturbances: list[Callable[[Trial], None]]) -> None:
    """Disturbs a run and lets it end."""
    for disturb in disturbances:
        trial.events.append(f"{disturb.__name__}:")
        disturb(trial)
    trial.events.append("then:")
    trial.end(trial.start())
    if not (trial.workdir / "result.json").exists():
        # What was refused has been mended.
        trial.end(trial.start())


def main(arguments: list[str] | None = None) -> int:
    """Makes the trials and prints what became of them; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="run to begin with")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args(arguments)
    chosen, ends, broken = collections.Counter(), collections.Counter(), []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = pathlib.Path(temporary)
        server = forks.Server(conftest.ROOT)
        stack.callback(server.close)
        data_dir = folder / "data"
        data_dir.mkdir()
        data.load(data.describe("digits", str(data_dir)), "test", str(data_dir))
        config = digits_config(
            data_dir,
            method__target_size=400,
            epochs=30 / _STEPS_PER_EPOCH,
            log_every_steps=2,
            checkpoint_every_steps=3,
        )
        path = folder / "config.py"
        write_config_file(path, config)

        def start(workdir: pathlib.Path) -> forks.Process:
            command = ("-c", _COMMAND, f"--config={path}", f"--workdir={workdir}")
            return server.start(*command, cwd=conftest.ROOT, env=conftest.environment(1))

        undisturbed = folder / "undisturbed"
        # The first one compiles, the second one is timed.
        for workdir in (folder / "first", undisturbed):
            started = time.monotonic()
            _, errors = (process := start(workdir)).communicate()
            assert process.returncode == _DONE, errors
        seconds = time.monotonic() - started
        print(f"an undisturbed run takes {seconds:.1f} seconds", flush=True)

        def disturb(number: int) -> tuple[Trial, list[str], str]:
            choose = random.Random(f"{options.seed} {number}")
            disturbances = choose.choices(DISTURBANCES, k=choose.randint(1, 3))
            disk = folder / f"disk{number}"
            trial = Trial(disk / "run", lambda: start(disk / "run"), choose, seconds)
            error = ""
            with small_disk(disk):
                try:
                    run_trial(trial, disturbances)
                    compare(trial.workdir, undisturbed)
                except Exception as broken:
                    error = f" is BROKEN ({broken!r:.4000})"
            print(f"run {number}{error}: {', '.join(trial.events)}", flush=True)
            return trial, [disturb.__name__ for disturb in disturbances], error

        runs = range(options.first, options.first + options.runs)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as threads:
            for number, (trial, names, error) in zip(runs, threads.map(disturb, runs), strict=True):
                chosen.update(names)
                ends.update(_kind(event) for event in trial.events)
                broken += [number] * bool(error)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    seconds = time.monotonic() - begin
    print(f"\n`{command}`: {options.runs} runs, {len(broken)} broken, in {seconds:.0f} seconds\n")
    if broken:
        print(f"broken: {broken}\n")
    for title, counts in (("disturbance", chosen), ("end of a start", ends)):
        print(f"| {title} | times |\n| --- | ---: |")
        print("".join(f"| {name} | {count} |\n" for name, count in counts.most_common() if name))
    return int(bool(broken))


def _kind(event: str) -> str:
    """The row of the summary that counts an event."""
    kinds = {
        "done": "complete",
        "told": "told to end, saved",
        "-9": "killed",
        "-15": "ended by SIGTERM before training",
    }
    for words, kind in {
        "is in use by": "refused: another trainer is in",
        "No space left": "error: the disk is full",
        "File too large": "error: the disk is full",
        "every checkpoint": "error: every checkpoint is damaged",
        "metrics.jsonl": "error: metrics.jsonl is damaged",
        "error: ": "error: a damaged file is named",
    }.items():
        if words in event:
            return kind
    return kinds.get(event, "")


if __name__ == "__main__":
    sys.exit(main())
