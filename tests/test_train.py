"""Whole runs: what they write, that they resume exactly, and what they refuse."""

import dataclasses
import io
import json
import math
import os
import re
import shutil
import signal
import tarfile
import time

import jax
import numpy as np
import pytest
from etils import epath

from configs import cifar10
from smh_jax import Manifest, data, methods
from smh_jax import config as configs
from smh_jax.config.errors import DivergedError
from smh_jax.config.files import read_json_with_digest
from smh_jax.data import preparation
from smh_jax.training import evaluation, metrics, parallel, processes, trained
from smh_jax.training.checkpoint import Checkpoints, named_leaves
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir
from tests.conftest import ROOT
from tests.small import digits_config, write_config_file

RESULT_FIELDS = {
    *("model", "dataset", "method", "target_size", "num_variables", "num_weights", "num_hashed"),
    *("test_accuracy", "test_examples", "steps", "train_seconds", "examples_per_second"),
    *("versions", "command"),
}
# What may differ between two runs of one configuration.
TIMES = ("train_seconds", "examples_per_second", "command")


def numbers(result):
    return {name: value for name, value in result.items() if name not in TIMES}


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final_state(workdir):
    """Leaves of the latest checkpoint, read without knowing its structure."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(
        workdir / "checkpoints", item_names=("state", "progress")
    ) as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        state = manager.restore(manager.latest_step(), args=args).state
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    assert len(one) > 30
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(digits_dir, tmp_path_factory):
    """A run that nobody disturbs: half an epoch, 11 steps."""
    workdir = tmp_path_factory.mktemp("whole")
    config = digits_config(digits_dir)
    return config, workdir, train_and_evaluate(config, workdir)


def test_a_run_explains_itself(whole):
    config, workdir, result = whole
    assert set(result) >= RESULT_FIELDS
    assert read_json_with_digest(workdir / "result.json") == result
    assert result["steps"] == 11
    assert result["test_examples"] == 360
    assert result["num_variables"] <= result["target_size"] == 1900
    assert result["num_weights"] > 2 * result["num_variables"]
    content = read_json_with_digest(workdir / "config.json")
    assert configs.from_config_dict(content) == config
    steps = [row["step"] for row in rows(workdir)]
    assert steps == [4, 8, 11]
    for row in rows(workdir):
        assert {"train_loss", "train_accuracy", "train_grad_norm", "learning_rate"} <= set(row)
    assert rows(workdir)[-1]["test_accuracy"] == result["test_accuracy"]
    assert list(workdir.glob("events.*"))
    # What is left of the state is where training ended.
    variables = [
        v.size for name, v in final_state(workdir).items() if name.startswith("['variables']")
    ]
    assert sum(variables) == result["num_variables"]


def test_a_complete_run_is_not_repeated(whole, monkeypatch):
    config, workdir, result = whole
    agreed = {}
    monkeypatch.setattr(processes, "check_same", agreed.__setitem__)
    before = (workdir / "metrics.jsonl").read_bytes()
    assert train_and_evaluate(config, workdir) == result
    assert (workdir / "metrics.jsonl").read_bytes() == before
    # What all processes of a run must have in common.
    manifest = Manifest.from_json((workdir / "manifest.json").read_text())
    assert agreed["the configuration"] == repr(config)
    assert agreed["the manifest's digest"] == manifest.digest
    assert agreed[f"the latest checkpoint in {workdir / 'checkpoints'}"] == "11"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smh", "dense"])
def test_training_on_equals_an_uninterrupted_run_bit_for_bit(method, digits_dir, tmp_path):
    changes = {"optimizer__schedule": "constant", "optimizer__learning_rate": 0.1}
    if method == "dense":
        changes |= {
            "method__name": "dense",
            "method__target_size": None,
            "method__options": {},
            "optimizer__name": "rmsprop",
            "optimizer__ema_decay": 0.9,
            "optimizer__accumulate_steps": 2,
            "optimizer__weight_decay_exclude": "bias$",
        }
    half = digits_config(digits_dir, **changes, epochs=6 / 22.453125)
    double = digits_config(digits_dir, **changes, epochs=12 / 22.453125)
    assert train_and_evaluate(half, tmp_path / "resumed")["steps"] == 6
    first_half = final_state(tmp_path / "resumed")
    resumed = train_and_evaluate(double, tmp_path / "resumed")
    straight = train_and_evaluate(double, tmp_path / "straight")
    assert straight["steps"] == 12
    assert numbers(resumed) == numbers(straight)
    assert_equal_states(final_state(tmp_path / "resumed"), final_state(tmp_path / "straight"))
    assert any(name.startswith("['ema']") for name in first_half) == (method == "dense")
    # The second half did change the state, and nothing of the first was lost.
    variable = next(name for name in first_half if name.startswith("['variables']"))
    assert np.any(first_half[variable] != final_state(tmp_path / "straight")[variable])
    for name, epochs in (("config.1.json", half.epochs), ("config.json", double.epochs)):
        assert json.loads((tmp_path / "resumed" / name).read_text())["epochs"] == epochs
    assert (tmp_path / "resumed" / "result.1.json").exists()
    with pytest.raises(
        ValueError, match=r"ends at step 6, but the run in .* is already at step 12"
    ):
        train_and_evaluate(half, tmp_path / "resumed")


def start(start_python, config, workdir):
    """Starts the command in a process of its own."""
    path = workdir.with_suffix(".py")
    write_config_file(path, config)
    return start_python("-m", "smh_jax.main", f"--config={path}", f"--workdir={workdir}")


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        assert process.poll() is None, process.communicate()[1][-4000:]
        time.sleep(0.01)


def saved_steps(workdir):
    folder = workdir / "checkpoints"
    return (
        sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit()) if folder.exists() else []
    )


@pytest.fixture(scope="module")
def undisturbed(digits_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    config = digits_config(digits_dir, epochs=100 / 22.453125, log_every_steps=50)
    return config, workdir, train_and_evaluate(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    "signal_number",
    [
        pytest.param(signal.SIGKILL, id="kill"),
        pytest.param(signal.SIGTERM, id="term"),
    ],
)
def test_a_run_that_is_ended_resumes(signal_number, undisturbed, start_python, tmp_path):
    config, whole, whole_result = undisturbed
    workdir = tmp_path / "disturbed"
    process = start(start_python, config, workdir)
    wait_for(lambda: any(step >= 8 for step in saved_steps(workdir)), process)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=60)
    reached = saved_steps(workdir)[-1]
    assert reached < 100
    assert not (workdir / "result.json").exists()
    # 75 says that the same command resumes the run; see `smh_jax.main`.
    assert process.returncode == {signal.SIGTERM: 75}.get(signal_number, -signal_number), errors
    resumed = train_and_evaluate(config, workdir)
    assert numbers(resumed) == numbers(whole_result)
    assert_equal_states(final_state(workdir), final_state(whole))
    # What was measured before the end, but not yet logged, is not lost.
    speed = {"steps_per_second": 0}
    assert [row | speed for row in rows(workdir)] == [row | speed for row in rows(whole)]
    losses = [row["train_loss"] for row in rows(whole)]
    assert len(losses) == 2
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_losses(digits_dir, tmp_path, run_python):
    config = digits_config(digits_dir, batch_norm="synced", log_every_steps=1)
    train_and_evaluate(config, tmp_path / "1")
    code = (
        "import json, jax\n"
        "from smh_jax import config\n"
        "from smh_jax.training import loop\n"
        f"content = json.loads({json.dumps(configs.to_json_dict(config))!r})\n"
        f"loop.train_and_evaluate(config.from_config_dict(content), {str(tmp_path / '4')!r})\n"
        "print(jax.device_count())\n"
    )
    assert run_python("-c", code, devices=4).stdout.split()[-1] == "4"
    alone, spread = rows(tmp_path / "1"), rows(tmp_path / "4")
    for one, four in zip(alone, spread, strict=True):
        assert four["train_loss"] == pytest.approx(one["train_loss"], rel=2e-3)
    assert spread[-1]["test_examples"] == 360
    assert spread[-1]["test_loss"] == pytest.approx(alone[-1]["test_loss"], rel=2e-3)
    losses = [row["train_loss"] for row in alone]
    assert max(losses) > 1.02 * min(losses)


@pytest.mark.slow
def test_a_run_resumes_on_other_devices_with_as_many_microbatches(digits_dir, tmp_path, run_python):
    changes = {"optimizer__schedule": "constant", "log_every_steps": 1}
    begun = digits_config(digits_dir, **changes, epochs=2 / 22.453125)
    whole = dataclasses.replace(begun, epochs=4 / 22.453125)
    code = "import json\nfrom smh_jax import config\nfrom smh_jax.training import loop\n"
    for config, name in ((begun, "resumed"), (whole, "whole")):
        content = json.dumps(configs.to_json_dict(config))
        code += (
            f"content = config.from_config_dict(json.loads({content!r}))\n"
            f"loop.train_and_evaluate(content, {str(tmp_path / name)!r})\n"
        )
    run_python("-c", code, devices=2)
    message = (
        r"cut into 2 microbatches so far, and is into 1 here \(1 devices, "
        r"optimizer\.accumulate_steps=1\).*use --config\.optimizer\.accumulate_steps=2"
    )
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(whole, tmp_path / "resumed")
    optimizer = dataclasses.replace(whole.optimizer, accumulate_steps=2)
    train_and_evaluate(dataclasses.replace(whole, optimizer=optimizer), tmp_path / "resumed")
    straight, resumed = (
        [row["train_loss"] for row in rows(tmp_path / name)] for name in ("whole", "resumed")
    )
    np.testing.assert_allclose(resumed, straight, rtol=1e-5)
    assert len(straight) == 4
    # Another cut gives other losses: local batch norm sees other shares.
    other = tmp_path / "other"
    train_and_evaluate(whole, other)
    assert not np.allclose([row["train_loss"] for row in rows(other)], straight, rtol=1e-5)


def test_evaluation_counts_exactly_the_examples_that_are_there():
    """Fake logits with a hand-computed answer: 3 of 5 right, the padding right as well."""

    def step(_, batch):
        return metrics.gather(metrics.Evaluation, **batch)

    correct = np.array([[1, 0, 1, 1], [0, 1, 1, 1]], np.float32)
    loss = np.array([[1, 2, 3, 4], [5, 100, 100, 100]], np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], np.float32)
    backend = parallel.backend()
    mapped = backend.map_replicas(step, donate_state=False)
    batches = [
        {"correct": c, "loss": x, "mask": m} for c, x, m in zip(correct, loss, mask, strict=True)
    ]
    total = None
    for batch in backend.to_devices(batches):
        one = backend.first_replica(mapped(backend.replicate(np.zeros(())), batch))
        total = one if total is None else total.merge(one)
    values = total.compute()
    assert float(values["accuracy"]) == pytest.approx(3 / 5)
    assert float(values["loss"]) == pytest.approx(15 / 5)
    assert float(total.accuracy.count) == 5


@pytest.mark.parametrize("eval_batch_size", [7, 100, 1000])
def test_the_evaluation_does_not_depend_on_its_batch(eval_batch_size, whole, digits_dir):
    config, workdir, result = whole
    assert config.data.eval_batch_size == 100
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, eval_batch_size=eval_batch_size)
    )
    run = Run.from_config(config)
    program = Program.for_run(run, num_examples=1437)
    with Checkpoints(workdir, keep=2) as checkpoints:
        state, _ = checkpoints.restore(program.init_state())
    again = evaluation.evaluate(
        program.eval_step,
        parallel.backend().replicate(state),
        split=data.load(run.dataset, config.data.eval_split, digits_dir),
        dataset=run.dataset,
        config=config.data,
        backend=program.backend,
    )
    assert again["examples"] == 360
    assert again["accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-9)
    assert again["loss"] == pytest.approx(result["test_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        # The gradient of the only step is finite, and the state after it is not.
        (1, r"variables/pools/u is not finite after step 1; last good checkpoint: none was saved"),
        pytest.param(
            2,
            r"loss=nan at step 2; last good checkpoint: none was saved",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_that_diverges_ends_in_an_error(steps, message, digits_dir, tmp_path):
    config = digits_config(
        digits_dir,
        optimizer__learning_rate=1e39,
        optimizer__schedule="constant",
        epochs=steps / 22.453125,
    )
    with pytest.raises(DivergedError, match=message):
        train_and_evaluate(config, tmp_path)
    assert saved_steps(tmp_path) == []
    assert not (tmp_path / "result.json").exists()


def test_only_finite_states_are_saved(whole):
    config, workdir, _ = whole
    state = Program.for_run(Run.from_config(config), num_examples=1437).init_state()
    before = saved_steps(workdir)
    with Checkpoints(workdir, keep=2) as checkpoints:
        state, progress = checkpoints.restore(state)
        state.variables["scales"] = np.full_like(state.variables["scales"], np.nan)
        with pytest.raises(DivergedError, match=r"variables/scales .*good checkpoint: .*/11\."):
            checkpoints.save(state.replace(step=np.int32(12)), progress)
    assert saved_steps(workdir) == before


def test_a_state_that_is_not_finite_is_not_resumed(whole, tmp_path, monkeypatch):
    config, workdir, _ = whole
    shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
    state = Program.for_run(Run.from_config(config), num_examples=1437).init_state()
    with Checkpoints(epath.Path(tmp_path), keep=3) as checkpoints:
        good, progress = checkpoints.restore(state)
        # Whoever made it can make a digest.
        monkeypatch.setattr(checkpoints, "check_finite", lambda state: state)
        variables = {**good.variables, "scales": np.full_like(good.variables["scales"], np.nan)}
        checkpoints.save(good.replace(step=np.int32(12), variables=variables), progress)
        checkpoints.wait()
        with pytest.raises(
            ValueError, match=r"step 12 .* is damaged \(its variables/scales is not"
        ):
            checkpoints.read()
        again, _ = checkpoints.restore(state)
    jax.tree.map(np.testing.assert_array_equal, again, good)
    assert (tmp_path / "checkpoints" / "12.1.damaged").is_dir()


def test_a_disk_that_fails_for_a_moment_damages_nothing(whole, tmp_path, monkeypatch):
    config, workdir, _ = whole
    shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
    like = Program.for_run(Run.from_config(config), num_examples=1437).init_state()
    with Checkpoints(epath.Path(tmp_path), keep=2) as checkpoints:
        load = checkpoints._load

        def failing(step):
            if step == 11:
                raise OSError(5, "Input/output error")
            return load(step)

        monkeypatch.setattr(checkpoints, "_load", failing)
        for read in (checkpoints.read, lambda: checkpoints.restore(like)):
            with pytest.raises(OSError, match="Input/output error"):
                read()
        monkeypatch.undo()
        state, _ = checkpoints.restore(like)
    assert state.step == 11
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"8", "11"}


def test_a_source_that_is_no_run_is_named_by_its_field(digits_dir, tmp_path):
    for field in ("init_from", "distillation__teacher"):
        config = digits_config(digits_dir, **{field: str(tmp_path / "typo")})
        with pytest.raises(ValueError, match=rf"{field.replace('__', '.')}=.*typo holds no run"):
            train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_trainer_is_told_who_the_first_one_is(whole, tmp_path):
    config, workdir, result = whole
    before = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    message = rf"whole0 is in use by process {os.getpid()} on .* since 20..-..-.. "
    with Workdir(workdir).locked(), pytest.raises(ValueError, match=message):
        train_and_evaluate(config, workdir)
    assert {path: path.read_bytes() for path in workdir.glob("*.json*")} == before
    assert train_and_evaluate(config, workdir) == result


@pytest.mark.parametrize("name", ["result.json", "config.json", "manifest.json"])
def test_a_damaged_file_is_named(name, whole, tmp_path):
    config, workdir, _ = whole
    shutil.copytree(workdir, tmp_path / "run")
    good = (workdir / name).read_bytes()
    digit = re.search(rb"[1-8]", good).start()
    other = bytes([good[digit] + 1])
    for content in (b"{", b"\xff", b"[]", good[:-3], good[:digit] + other + good[digit + 1 :]):
        (tmp_path / "run" / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            train_and_evaluate(config, tmp_path / "run")


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "flipped" and content:
        content[len(content) // 2] ^= 4
    path.write_bytes(content[: len(content) // 2] if kind == "truncated" else content)
    if kind == "missing":
        path.unlink()


# Other reads of orbax's are still under way when the first has failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("flipped", marks=pytest.mark.slow),
        pytest.param("truncated", marks=pytest.mark.slow),
        "missing",
    ],
)
def test_whatever_file_of_a_checkpoint_is_damaged(kind, whole, tmp_path):
    config, workdir, _ = whole
    like = Program.for_run(Run.from_config(config), num_examples=1437).init_state()
    with Checkpoints(workdir, keep=2) as checkpoints:
        good = [checkpoints._load(step) for step in (8, 11)]
    noticed = 0
    for number, path in enumerate(sorted((workdir / "checkpoints" / "11").rglob("*"))):
        if path.is_dir():
            continue
        copy = tmp_path / str(number)
        shutil.copytree(workdir / "checkpoints", copy / "checkpoints")
        damage(copy / path.relative_to(workdir), kind)
        with Checkpoints(copy, keep=2) as checkpoints:
            state, progress = checkpoints.restore(like)
        # What does not matter was damaged, or the last but one is taken.
        wanted, wanted_progress = good[int(state.step) == 11]
        assert progress == {k: v for k, v in wanted_progress.items() if k != "smh_jax"}
        for name, leaf in named_leaves(wanted).items():
            np.testing.assert_array_equal(named_leaves(state)[name], leaf)
        there = {path.name for path in (copy / "checkpoints").iterdir()}
        assert there == ({"8", "11"} if state.step == 11 else {"8", "11.1.damaged"})
        noticed += state.step == 8
    assert noticed >= 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_resumes_before_a_damaged_checkpoint(whole, tmp_path):
    config, workdir, result = whole
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    damage(copy / "checkpoints" / "11" / "progress" / "metadata", "flipped")
    with pytest.raises(ValueError, match=r"checkpoint at step 11 in .* is damaged \("):
        trained.read(copy)
    assert numbers(train_and_evaluate(config, copy)) == numbers(result)
    assert_equal_states(final_state(copy), final_state(workdir))
    assert [row["step"] for row in rows(copy)] == [4, 8, 11]
    for step in (8, 11):
        damage(copy / "checkpoints" / str(step) / "progress" / "metadata", "truncated")
    for _ in range(2):
        message = r"every checkpoint in .*/checkpoints is damaged: step 11 \(.*\), step 8 \(.*\)"
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(config, copy)


@pytest.mark.slow
def test_a_checkpoint_of_another_structure_is_refused(digits_dir, tmp_path):
    config = digits_config(digits_dir, epochs=4 / 22.453125)
    train_and_evaluate(config, tmp_path)
    # As another version of the code would, under the same configuration.
    run = Run.from_config(config)
    steps = Program.for_run(run, num_examples=1437)
    state = steps.init_state()
    state.variables["pools"].pop("u")
    state.variables["scales"] = np.zeros(3, np.float32)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(state.replace(step=np.int32(5)), {})
    message = (
        r"checkpoint at step 5 in .*, written by smh_jax 0\.1\.0, does not fit the configuration "
        r"under smh_jax 0\.1\.0: variables/pools/u is absent there, float32.* here; "
        r"variables/scales is float32\[3\] there, float32\[9\] here"
    )
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert saved_steps(tmp_path) == [4, 5]


class Recorder:
    """Notes when steps are dispatched and when their metrics are read."""

    def __init__(self, monkeypatch):
        self.events = []
        for_run, first_replica = Program.for_run, parallel.Pmap.first_replica

        def recorded(*args, **options):
            program = for_run(*args, **options)

            def train_step(*arguments):
                state, measured = program.train_step(*arguments)
                self.events.append("dispatch")
                return state, measured

            return dataclasses.replace(program, train_step=train_step)

        def fetched(backend, tree):
            if isinstance(tree, metrics.Training):
                self.events.append("read")
            return first_replica(backend, tree)

        monkeypatch.setattr(Program, "for_run", recorded)
        monkeypatch.setattr(parallel.Pmap, "first_replica", fetched)

    def ahead(self):
        """After each dispatch, how many steps were dispatched whose metrics had not been read."""
        counts, ahead = [], 0
        for event in self.events:
            ahead += 1 if event == "dispatch" else -1
            if event == "dispatch":
                counts.append(ahead)
        return counts


@pytest.mark.slow
def test_steps_are_dispatched_before_earlier_ones_are_read(digits_dir, tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch)
    config = digits_config(digits_dir, checkpoint_every_steps=16, log_every_steps=2, epochs=0.9)
    train_and_evaluate(config, tmp_path)
    # Each of 20 steps, but the first and those after a checkpoint, finds more before it unread.
    assert recorder.ahead() == [1, 1, 2, 3, 4, *[5] * 11, 1, 2, 3, 4]
    assert [row["step"] for row in rows(tmp_path)] == list(range(2, 21, 2))


def test_nothing_is_compiled_after_the_first_step_and_evaluation(digits_dir, tmp_path, monkeypatch):
    compiled = []
    recorder = Recorder(monkeypatch)
    config = digits_config(
        digits_dir, epochs=0.9, checkpoint_every_steps=3, eval_every_epochs=4 / 22.453125
    )
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *args, **options: (
            compiled.append(recorder.events.count("dispatch")) if "compile" in event else None
        )
    )
    try:
        train_and_evaluate(config, tmp_path)
    finally:
        jax.monitoring.clear_event_listeners()
    assert recorder.events.count("dispatch") == 20
    assert 0 in compiled
    assert max(compiled) <= 4, compiled


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__name": "cifar_resnet21"}, "nearest are cifar_resnet20 and cifar_resnet26"),
        ({"model__name": "cifar_resent20"}, "did you mean cifar_resnet"),
        ({"model__options": {"widht": 1.0}}, "no option 'widht'"),
        ({"method__name": "shm"}, "did you mean smh"),
        ({"method__target_size": 10}, "the smallest possible target is"),
        ({"method__target_size": 10**7}, "is not smaller than the model's"),
        ({"method__hashed": "nothing"}, "hashed='nothing' matches no tensor"),
        ({"data__name": "digitz"}, "did you mean digits"),
        ({"data__train_split": "training"}, "data split 'training' is not a part of digits"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(changes, message, digits_dir, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(digits_config(digits_dir, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_workdir_of_another_run_is_refused(whole, digits_dir):
    _, workdir, _ = whole
    before = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    for changes, message in (
        ({"model__name": "cifar_resnet14"}, r"model.name: 'cifar_resnet8' there, 'cifar_resnet14'"),
        ({"method__target_size": 2000}, "method.target_size: 1900 there, 2000 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        # Under this schedule the rates of all steps would change.
        ({"epochs": 1.0}, "epochs: 0.5 there, 1.0 here.*'one_cycle' every step's rate follows"),
    ):
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(digits_config(digits_dir, **changes), workdir)
    assert {path: path.read_bytes() for path in workdir.glob("*.json*")} == before


def test_a_manifest_of_other_weights_is_refused(whole, digits_dir, tmp_path):
    config, _, _ = whole
    other = Run.from_config(digits_config(digits_dir, model__name="cifar_resnet14"))
    with pytest.raises(ValueError, match="describes other tensors than the model has"):
        Run.from_config(config, other.method.manifest)
    run = Run.from_config(config)
    assert Run.from_config(config, run.method.manifest) == run


def test_a_workdir_with_unexplained_checkpoints_is_refused(digits_dir, tmp_path):
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no config\.json"):
        train_and_evaluate(digits_config(digits_dir), tmp_path)


def test_a_batch_that_the_devices_do_not_divide(digits_dir, run_python):
    done = run_python(
        "-m",
        "smh_jax.main",
        "--config=configs/digits.py",
        "--config.data.batch_size=126",
        "--workdir=unused",
        devices=4,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "error: data.batch_size=126 is not divisible by the 4 devices; use 124 or 128"
        in done.stderr
    )
    assert not (ROOT / "unused").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py:dept=3"], "argument 'dept' is unknown"),
        (["--config=configs/digits.py", "--config.optimizer.lr=1"], "no field 'lr'"),
        (
            ["--config=configs/digits.py", "--config.epochs=many"],
            "could not convert string to float",
        ),
        (["--config=configs/digitz.py"], "digitz"),
    ],
)
def test_typos_on_the_command_line(arguments, message, run_python):
    done = run_python("-m", "smh_jax.main", *arguments, "--workdir=unused", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error:")
    assert message in done.stderr.splitlines()[-1]


def test_a_command_outside_of_the_root_says_so(run_python, tmp_path):
    config = ROOT / "configs" / "digits.py"
    code = f"""
import os, runpy, sys
sys.path.remove("")
sys.path.remove({str(ROOT)!r})
sys.path.append({str(tmp_path)!r})
os.symlink({str(ROOT / "smh_jax")!r}, {str(tmp_path / "smh_jax")!r})
sys.argv = ["main", "--config={config}", "--workdir=unused"]
runpy.run_module("smh_jax.main", run_name="__main__")
"""
    done = run_python("-c", code, check=False, anew=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run the command in the project's root")


def test_inspect_shows_what_would_be_trained(run_python):
    done = run_python("-m", "smh_jax.inspect", "--config=configs/cifar10.py:hashed=conv", "--all")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "hashed" in lines["stage3_block5/conv2/kernel"]
    assert "424,368" in lines["stage3_block5/conv2/kernel"]
    assert "stored (not in the hashed set)" in lines["classifier/kernel"]
    assert "stored (batch norm)" in lines["bn/scale"]
    for line in (
        "num weights: 464,154",
        "num hashed: 461,232",
        "num stored: 2,922",
        "num scales: 31",
        "pool shapes: {'u': (680, 85), 'v': (85, 680)}",
    ):
        assert line in done.stdout


@pytest.mark.slow
def test_inspect_shows_a_base_model(run_python):
    done = run_python("-m", "smh_jax.inspect", "--model=mobilenet_v3_small", "--resolution=96")
    assert "input shape: (96, 96, 3)" in done.stdout
    assert "parameters: 2,542,856" in done.stdout
    assert "hashable weights: 2,530,744 in 74 tensors" in done.stdout
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("multiply-adds"))
    # 56.5 million at 224 pixels.
    assert 10e6 < int(line.split()[1].replace(",", "")) < 13e6
    neither = run_python("-m", "smh_jax.inspect", check=False)
    assert neither.returncode == 1
    assert "either --config" in neither.stderr


@pytest.fixture(scope="module")
def cifar10_dir(tmp_path_factory):
    """A data_dir with a small cifar10, prepared from an archive in the original's format."""
    folder = tmp_path_factory.mktemp("cifar10")
    random = np.random.default_rng(0)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:

        def add(name, content):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
            # Each record is a label and the three colour planes.
            labels = random.integers(0, 10, (13, 1))
            pixels = random.integers(0, 256, (13, 3072))
            add(name, np.concatenate([labels, pixels], 1).astype(np.uint8).tobytes())
        names = [f"class{label}" for label in range(10)]
        add("batches.meta.txt", "\n".join(names).encode())
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    files = {address: folder / "cifar-10-binary.tar.gz"}
    preparation.prepare_local_files("cifar10", files, str(folder / "data"))
    return str(folder / "data")


def test_cifar10_in_its_real_format_trains(cifar10_dir, tmp_path):
    config = configs.from_config_dict(cifar10.get_config("depth=8,target_size=18750"))
    config = dataclasses.replace(
        config,
        epochs=0.5,
        data=dataclasses.replace(config.data, batch_size=16, data_dir=cifar10_dir),
    )
    result = train_and_evaluate(config, tmp_path)
    assert result["steps"] == 2
    assert result["test_examples"] == 13
    assert result["num_weights"] == 75_290
    assert 18_500 < result["num_variables"] <= 18_750
    assert math.isfinite(result["test_loss"])


def test_data_names_are_those_of_the_catalogue():
    assert set(data.names()) == {"digits", "fashion_mnist", "cifar10", "cifar100", "imagenet2012"}


# The gradients of all: tests/test_methods.py and tests/test_decompositions.py.
@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in methods.names() if name != "dense"])
def test_every_method_learns(method, digits_dir, tmp_path):
    options = methods.default_options(method)
    config = digits_config(
        digits_dir,
        method__name=method,
        method__options=options,
        model__options={},
        method__target_size=30_000,
        epochs=8.0,
        log_every_steps=10,
    )
    result = train_and_evaluate(config, tmp_path)
    assert result["num_variables"] <= 30_000
    losses = [row["train_loss"] for row in rows(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    assert result["test_accuracy"] > 0.7
