"""Several tasks whose networks share one pair of pools, and tasks that are added to it."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from etils import epath

from smh_jax import Manifest, data, inspect, methods
from smh_jax.config import tasks as task_configs
from smh_jax.data.transforms import transformed
from smh_jax.methods import shared
from smh_jax.methods.elastic import pairs_of
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping import conversion, from_run, onnx, stablehlo
from smh_jax.shipping.artifact import container, forward, together
from smh_jax.training import losses, run_figures, trained
from smh_jax.training.checkpoint import Checkpoints, named_leaves
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from tests.numerics import random_like
from tests.small import TwoLayers, digits_config, few_quick

IMAGES = (1, 8, 8, 1)
MODELS = {"a": TwoLayers(), "b": TwoLayers(num_classes=7), "c": TwoLayers(num_classes=3)}
TASKS = "plain; inverted: data.transform=inverted, weight=0.5"
ADDED = "rotated: data.transform=rotated"


@functools.cache
def manifest_of(name):
    return Manifest.from_model(MODELS[name], IMAGES)


def joint(names="abc"):
    return Manifest.joined({name: manifest_of(name) for name in names})


def assert_close(one, other, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), one, other)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_joint_manifest_is_that_of_each_model_under_its_name():
    manifest = joint()
    assert manifest.num_hashed == sum(manifest_of(name).num_hashed for name in "abc")
    assert [t.name for t in manifest.hashed][:2] == ["a/z_conv/kernel", "a/z_conv/bias"]
    for name in "abc":
        assert manifest.part(name) == manifest_of(name)
    only = Manifest.joined({name: manifest_of(name) for name in "ab"}, "b/.*dense/kernel")
    assert [t.name for t in only.hashed] == ["b/m_dense/kernel", "b/a_dense/kernel"]
    params = jax.eval_shape(lambda: methods.create("dense", manifest).init(jax.random.key(0)))
    assert params["stored"].keys() == {t.name for t in manifest.tensors}


@pytest.mark.parametrize(
    "options",
    few_quick(
        [
            {},
            {"scale_per": "channel"},
            {"scale": "fixed"},
            {"matrix": "square", "modifier": "sign"},
        ],
        1,
    ),
    ids=str,
)
def test_each_network_alone_equals_its_part_of_all(options):
    method = methods.create("smh", joint(), target_size=600, **options)
    variables = random_like(method.abstract_variables)
    windows = {}
    for name in "abc":
        alone, own = shared.member(method, name), shared.of_member(method, name, variables)
        assert own["pools"]["u"] is variables["pools"]["u"]
        smaller, its = shared.alone(alone, own)
        assert its["pools"]["u"].shape[0] < own["pools"]["u"].shape[0] / 2
        windows |= {(name, "all rows"): (alone, own), (name, "its own rows"): (smaller, its)}

    @jax.jit
    def made(variables, of_windows):
        pairs = {key: (windows[key][0], its) for key, its in of_windows.items()}
        return (
            method.materialize(variables),
            {key: window.materialize(its) for key, (window, its) in pairs.items()},
            # Generated layer by layer, as in inference on the fly.
            {key: window.materialize_part(its, 1, 3, 0) for key, (window, its) in pairs.items()},
        )

    params, wholes, parts = made(variables, {key: its for key, (_, its) in windows.items()})
    for key, (window, its) in windows.items():
        assert window.manifest.same_tensors(manifest_of(key[0]))
        assert jax.tree.map(jnp.shape, its) == jax.tree.map(jnp.shape, window.abstract_variables)
        assert window.num_variables == window.target_size
        assert_close(wholes[key], params[key[0]])
        leaves = window.manifest.leaves(params[key[0]])
        assert len(parts[key]) == 2
        for tensor, weight in parts[key].items():
            np.testing.assert_allclose(weight, leaves[tensor], 1e-4, 1e-5)
    kernels = [np.ravel(params[name]["z_conv"]["kernel"]) for name in "abc"]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01 < np.abs(kernels[1] - kernels[2]).max()


@pytest.mark.slow
@pytest.mark.parametrize("grown", [False, True])
def test_what_is_added_leaves_the_others_as_they_are(grown):
    method = methods.create("smh", joint("ab"), target_size=400)
    variables = random_like(method.abstract_variables)
    alone = jax.jit(shared.member(method, "b").materialize)
    before = alone(shared.of_member(method, "b", variables))
    added = shared.added(method, joint("c"), 300, grown)
    assert added.inner.first == method.manifest.num_hashed
    assert added.num_variables <= 300
    drawn = jax.jit(added.init)(jax.random.key(1))
    assert ("pools" in drawn) == grown
    start = added.starting_from(variables["pools"], drawn)
    weights = jnp.concatenate(
        [jnp.ravel(w) for w in added.inner.generate(added.changed(start)["pools"])]
    )
    tensor = added.manifest.hashed[0]
    assert float(jnp.std(weights) * start["scales"][0]) == pytest.approx(1, rel=1e-3)
    assert tensor.initial.stddev > 0

    def loss(variables):
        return sum(jnp.sum(jnp.sin(w + 1)) for w in jax.tree.leaves(added.materialize(variables)))

    gradient = jax.jit(jax.grad(loss))(start)
    assert not any(np.any(x) for x in jax.tree.leaves(gradient.pop("frozen")))
    assert all(np.any(x) for x in jax.tree.leaves(gradient))
    # After training, as all networks are made from the pools of the new ones.
    trained_ = {**random_like(start), "frozen": start["frozen"]}
    pools = added.exported(trained_)["pools"]
    assert pools["u"].shape[1] == added.inner.num_hash_pairs
    assert (pools["u"].shape[1] > method.num_hash_pairs) == grown
    first = pairs_of(pools, 0, method.num_hash_pairs)
    after = alone({**shared.of_member(method, "b", variables), "pools": first})
    assert_equal(before, after)
    new = shared.member(added.inner, "c")
    own = shared.of_member(added.inner, "c", added.exported(trained_))
    assert_close(jax.jit(new.materialize)(own), jax.jit(added.materialize)(trained_)["c"])
    # Behind the last weight there are not as many entries: it continues at the first one.
    assert new.first + new.manifest.num_hashed > np.prod(new.matrix_shape)
    assert shared.alone(new, own)[0] == new
    other = shared.added(added.inner, joint("a"), 300, grown)
    assert other.num_frozen == added.inner.num_hash_pairs
    assert other.inner.first == (new.first + new.manifest.num_hashed) % np.prod(new.matrix_shape)


def test_pools_that_cannot_be_shared():
    for options, message in (
        ({"layout": "kronecker"}, "layout='kronecker' must be 'matmul' where pools are shared"),
        ({"blocks": 2}, "blocks=2 must be 1 where pools are shared"),
    ):
        method = methods.create("smh", joint(), target_size=600, **options)
        with pytest.raises(ValueError, match=message):
            shared.member(method, "a")
    with pytest.raises(ValueError, match="networks share the pools of method 'smh', not 'low_ra"):
        shared.member(methods.create("low_rank", joint(), target_size=900), "a")
    method = methods.create("smh", joint("ab"), target_size=400)
    with pytest.raises(ValueError, match="task='d' is unknown; known are a, b"):
        shared.member(method, "d")
    only = Manifest.joined({name: manifest_of(name) for name in "ab"}, "b/")
    with pytest.raises(ValueError, match="nothing of 'a' is hashed: it would share nothing"):
        shared.member(methods.create("smh", only, target_size=700), "a")
    with pytest.raises(ValueError, match="target_size=21 must be at least 22: 22 scales and store"):
        shared.added(method, joint("c"), 21, grown=False)
    with pytest.raises(ValueError, match=r"target_size=60 must be .*trained and hash pairs of "):
        shared.added(method, joint("c"), 60, grown=True)


def test_images_are_transformed_alike(digits_dir):
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(transformed(images, "inverted"), 255 - images)
    rotated = transformed(images, "rotated")
    # What was right is above.
    np.testing.assert_array_equal(rotated[:, 0], images[:, :, -1])
    permuted = transformed(images, "permuted")
    assert np.any(permuted != images)
    pixels, moved = (x.reshape(5, 16, 3) for x in (images, permuted))
    order = [np.flatnonzero((pixels[0] == pixel).all(-1))[0] for pixel in moved[0]]
    assert sorted(order) == list(range(16))
    np.testing.assert_array_equal(pixels[:, order], moved)
    plain = data.describe("digits", digits_dir)
    assert data.describe("digits", digits_dir, transform="none") == plain
    inverted = data.describe("digits", digits_dir, transform="inverted")
    split = data.load(inverted, "train", digits_dir)
    np.testing.assert_array_equal(split.images, 255 - data.load(plain, "train", digits_dir).images)
    assert np.mean(split.images) / 255 == pytest.approx(inverted.normalization.mean[0], abs=1e-3)
    assert inverted.normalization.stddev == plain.normalization.stddev
    with pytest.raises(ValueError, match=r"'inverted' must be 'none' for data\.name='image"):
        data.describe("imagenet2012", digits_dir, transform="inverted")


def config_of(digits_dir, tasks=TASKS, **changes):
    return digits_config(digits_dir, tasks=tasks, **{"method__target_size": 3000} | changes)


def test_the_text_that_names_tasks(digits_dir):
    text = (
        "a; b : model.name=cifar_resnet14, weight=2,data.image_size=4; "
        "c: model.options.width_multiplier=0.5"
    )
    config = config_of(digits_dir, text)
    read = task_configs.read(config)
    assert list(read) == ["a", "b", "c"]
    assert read["a"].config == dataclasses.replace(config, tasks="")
    assert (read["b"].weight, read["b"].config.data.image_size) == (2.0, 4)
    assert read["b"].config.model.name == "cifar_resnet14"
    assert read["b"].config.model.options == {}
    assert read["c"].config.model.options == {
        **config.model.options,
        "width_multiplier": 0.5,
    }
    for text, message in (
        ("a; a", "tasks='a; a': ' a' must begin with a name of letters, digits and _ that no"),
        ("a b", "'a b' must begin with a name"),
        (": data.name=digits", "must begin with a name"),
        ("a: data.nam=digits", "tasks: a: argument 'data.nam' is unknown; did you mean data.name"),
        ("a: data.batch_size=2", "argument 'data.batch_size' is unknown"),
        ("a: weight=0", "tasks: a: weight=0.0 must be above 0"),
        ("a: data.image_size=x", "argument data.image_size='x' must be of type int"),
        ("a: data.transform=mirrored", "tasks: a: data.transform='mirrored' must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            task_configs.read(config_of(digits_dir, text))


def first_batch(run, size=64):
    splits = run.task.load_splits(run.dataset, run.config.data)
    which = {"seed": 0, "first_step": 0, "last_step": 1, "host": 0, "num_hosts": 1}
    (batch,) = run.task.train_batches(splits[0], run.dataset, run.config.data, **which)
    return batch


def test_the_loss_is_the_weighted_sum_of_the_tasks(digits_dir):
    run = Run.from_config(config_of(digits_dir))
    batch = first_batch(run)
    like = run.task.abstract_batch(run.dataset, 64, "float32")
    assert jax.tree.map(lambda x: (x.shape, x.dtype), like) == jax.tree.map(
        lambda x: (x.shape, x.dtype), batch
    )
    mean = 0.3049
    plain, inverted = (batch["inputs"][name] for name in ("plain", "inverted"))
    np.testing.assert_allclose(plain, -np.asarray(inverted), atol=1e-4)
    assert np.ptp(plain) == pytest.approx(1 / 0.3763, rel=1e-3)
    assert float(plain.min()) == pytest.approx(-mean / 0.3763, rel=1e-3)
    logits = {
        name: jax.random.normal(jax.random.key(i), (64, 10))
        for i, name in enumerate(batch["inputs"])
    }
    measured = run.task.measure(logits, batch, 0.1)
    alone = [
        losses.cross_entropy(x, batch["others"][name]["label"], 0.1) for name, x in logits.items()
    ]
    wanted = jnp.mean(alone[0]) + 0.5 * jnp.mean(alone[1])
    assert float(jnp.mean(measured["loss"])) == pytest.approx(float(wanted), rel=1e-5)
    assert measured["correct"].shape == (128,)
    only = run.task.measure({"inverted": logits["inverted"]}, {**batch, "mask": 1}, 0.1)
    np.testing.assert_allclose(only["loss"], alone[1], rtol=1e-6)


def stepped(digits_dir, backend="pmap", **changes):
    """The variables and model state after one step on all devices of this process."""
    run = Run.from_config(config_of(digits_dir, parallel__backend=backend, **changes))
    program = Program.for_run(run, 128)
    state = program.backend.replicate(program.init_state())
    (batch,) = program.backend.to_devices([first_batch(run)])
    state, _ = program.train_step(state, batch)
    state = program.backend.first_replica(state)
    leaves = jax.tree.leaves((state.variables, state.model_state))
    return np.concatenate([np.ravel(x) for x in leaves])


@pytest.mark.slow
def test_several_devices_take_the_step_of_as_many_microbatches(digits_dir, run_python, tmp_path):
    code = (
        "import numpy as np\n"
        "from tests import test_shared as test\n"
        f"states = [test.stepped({digits_dir!r}, backend) for backend in ('pmap', 'shard_map')]\n"
        f"np.save({str(tmp_path / 'states.npy')!r}, states)\n"
    )
    run_python("-c", code, devices=2)
    microbatches = stepped(digits_dir, optimizer__accumulate_steps=2)
    for devices in np.load(tmp_path / "states.npy"):
        np.testing.assert_allclose(devices, microbatches, 1e-3, 1e-4)
    assert np.abs(stepped(digits_dir) - microbatches).max() > 5e-3


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    """A finished run of two tasks, and its result."""
    workdir = tmp_path_factory.mktemp("shared")
    config = config_of(digits_dir)
    return config, workdir, train_and_evaluate(config, workdir)


@pytest.fixture(scope="module")
def grown(run, digits_dir, tmp_path_factory):
    """A finished run that adds a task and hash pairs, evaluated with averages."""
    workdir = tmp_path_factory.mktemp("grown")
    config = added_config(digits_dir, run[1], pool="grown", optimizer__ema_decay=0.9)
    return config, workdir, train_and_evaluate(config, workdir)


def added_config(digits_dir, source, tasks=ADDED, **changes):
    return config_of(
        digits_dir, tasks, pool_from=str(source), **{"method__target_size": 1500} | changes
    )


@pytest.mark.slow
def test_a_run_says_how_good_every_task_is(run):
    _, workdir, result = run
    assert [of["task"] for of in result["tasks"]] == ["plain", "inverted"]
    assert [of["weight"] for of in result["tasks"]] == [1.0, 0.5]
    plain, inverted = result["tasks"]
    assert result["test_accuracy"] == pytest.approx((plain["accuracy"] + inverted["accuracy"]) / 2)
    assert result["test_loss"] == pytest.approx(plain["loss"] + 0.5 * inverted["loss"])
    assert plain["loss"] != inverted["loss"]
    assert plain["examples"] == inverted["examples"] == 360
    assert result["num_variables"] <= 3000
    last = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["test_accuracy_plain"] == plain["accuracy"]
    assert last["test_loss_inverted"] == inverted["loss"]
    described = inspect.describe_run(Run.in_folder(workdir))
    assert "task inverted: cifar_resnet8 on digits (8, 8, 1), weight 0.5, " in described
    assert {"curves", "matrix", "scales", "spectra"} <= set(
        run_figures.pictures_of(epath.Path(workdir))
    )


@pytest.mark.slow
def test_a_task_of_a_file_is_as_good_as_the_run_said(run, tmp_path):
    config, workdir, result = run
    by_task = from_run.read_tasks(workdir)
    artifacts.save_tasks(tmp_path / "shared.smh", by_task)
    loaded = artifacts.load_tasks(tmp_path / "shared.smh")
    assert list(loaded) == ["plain", "inverted"]
    assert loaded["plain"].stored["pools"]["u"] is loaded["inverted"].stored["pools"]["u"]
    for of in result["tasks"]:
        artifact = artifacts.load(tmp_path / "shared.smh", task=of["task"])
        for other in (loaded[of["task"]], by_task[of["task"]]):
            assert artifact.method == other.method
            assert_equal(artifact.stored, other.stored)
            assert_equal(artifact.model_state, other.model_state)
        assert artifact.provenance["test_accuracy"] == of["accuracy"]
        dataset = from_run.dataset_of(artifact, None)
        assert dataset == task_configs.read(config)[of["task"]].config.data
        measured = from_run.with_accuracy(artifact, dataset).accuracy
        assert measured["loss"] == pytest.approx(of["loss"], rel=1e-3)
        assert measured["accuracy"] == pytest.approx(of["accuracy"], abs=1e-6)


@pytest.mark.slow
def test_old_tasks_keep_their_outputs_bit_for_bit(run, grown, tmp_path):
    _, workdir, _ = run
    before, after = from_run.read_tasks(workdir), from_run.read_tasks(grown[1])
    assert list(after) == ["plain", "inverted", "rotated"]
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    new = after["rotated"]
    assert new.method.num_hash_pairs > before["plain"].method.num_hash_pairs
    assert new.provenance["test_accuracy"] == grown[2]["tasks"][0]["accuracy"]
    for precision in ("float32", "int8"):
        for name, models in (("before", before), ("after", after)):
            artifacts.save_tasks(tmp_path / f"{name}.{precision}", models, precision=precision)
        old = artifacts.load(tmp_path / f"before.{precision}", task="inverted")
        now = artifacts.load(tmp_path / f"after.{precision}", task="inverted")
        assert old.precision == precision
        assert_equal(old.stored, now.stored)
        logits = np.asarray(old.logits(images))
        np.testing.assert_array_equal(logits, now.logits(images))
        np.testing.assert_array_equal(
            logits, artifacts.load_tasks(tmp_path / f"after.{precision}")["inverted"].logits(images)
        )
        there = artifacts.load(tmp_path / f"after.{precision}", task="rotated")
        assert np.abs(np.asarray(there.logits(images)) - np.asarray(new.logits(images))).max() < 0.2
        assert np.abs(np.asarray(there.logits(images)) - logits).max() > 0.1
    dataset = from_run.dataset_of(new, None)
    assert dataset.transform == "rotated"
    measured = from_run.with_accuracy(new, dataset).accuracy
    assert measured["loss"] == pytest.approx(grown[2]["tasks"][0]["loss"], rel=1e-3)


@pytest.mark.slow
def test_what_is_frozen_stays_and_what_is_added_is_trained(run, grown, digits_dir, tmp_path):
    frozen = train_and_evaluate(added_config(digits_dir, run[1]), tmp_path / "frozen")
    pools = trained.read(run[1]).variables["pools"]
    for workdir, result in ((tmp_path / "frozen", frozen), grown[1:]):
        learned = trained.read(workdir)
        assert_equal(learned.variables["frozen"], pools)
        method = learned.run.method
        start = method.starting_from(pools, jax.jit(method.init)(jax.random.key(0)))
        for group in ("scales", "stored"):
            changed = jax.tree.map(jnp.any, jax.tree.map(jnp.not_equal, *(
                variables[group] for variables in (learned.variables, start))))  # fmt: skip
            assert all(jax.tree.leaves(changed))
        assert result["num_pool_variables"] == sum(
            x.size for x in jax.tree.leaves(learned.variables.get("pools", {}))
        )
        assert result["num_variables"] <= 1500
    assert "pools" not in trained.read(tmp_path / "frozen").variables


@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit(run, grown, tmp_path):
    for number, (config, workdir, result) in enumerate((run, grown)):
        folder = tmp_path / str(number)
        shutil.copytree(workdir, folder)
        shutil.rmtree(folder / "checkpoints" / "11")
        (folder / "result.json").unlink()
        assert trained.read(folder).step == 8
        again = train_and_evaluate(config, folder)
        assert again["tasks"] == result["tasks"]
        states = []
        for path in (workdir, folder):
            with Checkpoints(epath.Path(path), 2) as checkpoints:
                states.append(named_leaves(checkpoints.read()))
        assert states[0].keys() == states[1].keys()
        for name, leaf in states[0].items():
            np.testing.assert_array_equal(leaf, states[1][name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["inverted", "rotated"])
def test_a_task_alone_computes_the_same_in_every_form(grown, task, tmp_path):
    """Cut out, layer by layer, in ONNX and in StableHLO, from pools of 8 and of 4 bits."""
    whole = from_run.read_tasks(grown[1])[task]
    alone = from_run.read_artifact(grown[1], task=task)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(alone.logits(images), whole.logits(images), 1e-4, 1e-4)
    smaller = task == "inverted"
    assert (len(artifacts.encode(alone)) < len(artifacts.encode(whole))) == smaller
    for precision in ("float32", "int8", "int4"):
        artifacts.save(tmp_path / precision, alone, precision=precision)
        loaded = artifacts.load(tmp_path / precision)
        expected = np.asarray(loaded.logits(images))
        on_the_fly, constants = forward.forward(loaded, "on_the_fly")
        program = jax.export.deserialize(bytearray(stablehlo.export(loaded)))
        session = onnxruntime.InferenceSession(onnx.export(loaded))
        (logits,) = session.run(["logits"], {"images": images})
        for computed in (jax.jit(on_the_fly)(constants, images), program.call(images), logits):
            np.testing.assert_allclose(computed, expected, 1e-4, 1e-4)
        # Of a file with all tasks, rounded once more.
    artifacts.save_tasks(tmp_path / "all", from_run.read_tasks(grown[1]), precision="int8")
    again = artifacts.alone(artifacts.load(tmp_path / "all", task=task)).at("int8")
    np.testing.assert_allclose(again.logits(images), whole.logits(images), atol=0.3)


@pytest.mark.slow
def test_no_more_is_read_than_a_task_needs(run, grown, tmp_path):
    artifacts.save_tasks(tmp_path / "file", from_run.read_tasks(grown[1]))
    content = (tmp_path / "file").read_bytes()
    with (tmp_path / "file").open("rb") as stream:
        stream.seek(len(together.MAGIC))
        header = container.read_header(stream)
        begin = stream.tell()
    assert [entry["pools"] for entry in header["tasks"]] == [1, 1, 2]
    assert len(content) == begin + sum(e["bytes"] for e in (*header["pools"], *header["tasks"]))
    # Without what the growth added, and without the other task, an old one is whole.
    second = begin + header["pools"][0]["bytes"]
    damaged = bytearray(content)
    end = second + header["pools"][1]["bytes"] + header["tasks"][0]["bytes"]
    damaged[second:end] = bytes(end - second)
    (tmp_path / "damaged").write_bytes(damaged)
    assert_equal(
        artifacts.load(tmp_path / "damaged", task="inverted").stored,
        artifacts.load(tmp_path / "file", task="inverted").stored,
    )
    for task in ("plain", "rotated"):
        with pytest.raises(ValueError, match="damaged is not a model that can be loaded"):
            artifacts.load(tmp_path / "damaged", task=task)


@pytest.mark.slow
def test_files_and_runs_of_tasks_that_are_not_there_or_damaged(run, tmp_path):
    _, workdir, _ = run
    by_task = from_run.read_tasks(workdir)
    artifacts.save_tasks(tmp_path / "file", by_task, precision="int8")
    artifacts.save(tmp_path / "one", artifacts.alone(by_task["plain"]))
    for path, arguments, message in (
        ("file", {"task": "plane"}, "task='plane' is unknown; did you mean plain"),
        ("file", {}, "it holds several tasks, name one: plain, inverted"),
        ("file", {"size": 0.5}, "it holds several tasks, of one size each"),
        ("one", {"task": "plain"}, "task='plain': it does not hold several tasks"),
    ):
        with pytest.raises(ValueError, match=f"is not a model that can be loaded: {message}"):
            artifacts.load(tmp_path / path, **arguments)
    with pytest.raises(ValueError, match="it is no file of several tasks"):
        artifacts.load_tasks(tmp_path / "one")
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "bad").write_bytes(content[:-1])
    with pytest.raises(ValueError, match="it is cut off: its part 3 is not whole"):
        artifacts.load(tmp_path / "bad", task="inverted")
    for place in (30, 600, len(content) - 9):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(ValueError, match="bad is not a model that can be loaded: "):
            artifacts.load_tasks(tmp_path / "bad")
    task = {"task": "plain", "bytes": 9, "pools": 3}
    pools = [{"bytes": 9}]
    for header in ([], {}, {"tasks": [], "pools": pools}, {"tasks": [task], "pools": pools}):
        (tmp_path / "bad").write_bytes(together.MAGIC + container.write_header(header))
        with pytest.raises(ValueError, match="bad is not a model that can be loaded: "):
            artifacts.load_tasks(tmp_path / "bad")
    with pytest.raises(ValueError, match="has several tasks, name one: plain, inverted"):
        from_run.read_artifact(workdir)
    with pytest.raises(ValueError, match="task='plane' is unknown; did you mean plain"):
        from_run.read_artifact(workdir, task="plane")
    with pytest.raises(ValueError, match=r"give either size=0.5 or task='plain'"):
        from_run.read_artifact(workdir, 0.5, "plain")
    plain = by_task["plain"]
    changed = dataclasses.replace(plain, stored=random_like(plain.stored))
    with pytest.raises(ValueError, match=r"task 'other': .* has other pools than"):
        artifacts.save_tasks(tmp_path / "new", {**by_task, "other": changed})
    with pytest.raises(ValueError, match="shares its pools"):
        artifacts.save_tasks(tmp_path / "new", {"one": plain.at("int8")})
    with pytest.raises(ValueError, match="exists; choose another name"):
        artifacts.save_tasks(tmp_path / "file", by_task)


@pytest.mark.slow
def test_what_a_run_of_several_tasks_does_not_do(run, grown, digits_dir, tmp_path):
    source = run[1]
    dense = {"method__name": "dense", "method__target_size": None, "method__options": {}}
    for changes, message in (
        (dense, "method.name='dense' must be 'smh' with tasks='plain; inv"),
        ({"elastic__sizes": (900,)}, r"elastic.sizes=\(900.0,\) must be \(\) with tasks="),
        ({"frozen_from": "x"}, "frozen_from='x' must be None with tasks="),
        ({"distillation__teacher": "x"}, "distillation.teacher='x' must be None with tasks="),
        ({"method__target_bytes": 900}, "method.target_bytes=900 must be None with tasks="),
        ({"pool": "thawed"}, "pool='thawed' must be one of frozen, grown"),
        ({"tasks": "", "pool_from": "x"}, "tasks='' must name what is added to pool_from='x'"),
        ({"pool_from": "x", "pruning": 0.5}, "pruning=0.5 must be 0.0 with pool_from='x'"),
        ({"pool_from": "x", "init_from": "y"}, "init_from='y' must be None with pool_from='x'"),
    ):
        with pytest.raises(ValueError, match=message):
            config_of(digits_dir, **changes)
    (tmp_path / "empty").mkdir()
    for config, message in (
        (config_of(digits_dir, "a: model.name=gpt2_small"), "tasks: a: model.name='gpt2_small' t"),
        (config_of(digits_dir, method__options={"blocks": 2}), "blocks=2 must be 1 where pools"),
        (added_config(digits_dir, tmp_path / "empty"), "pool_from=.*empty.* holds no run"),
        (added_config(digits_dir, source, TASKS), "has a task 'plain' already: plain, inverted"),
        (
            added_config(digits_dir, grown[1]),
            "pool_from=.*grown.* has a task 'rotated' already: plain, inverted, rotated",
        ),
        (
            added_config(digits_dir, source, method__options={"scale": "fixed"}),
            "pool_from=.* has method.options=.*learnable.* here: its pools are shared",
        ),
        (added_config(digits_dir, source, method__target_size=99), "target_size=99 must be at le"),
    ):
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        ValueError, match=r"cannot be converted: it has tasks in the pools of pool_"
    ):
        conversion.of_run(grown[1], None)


@pytest.mark.slow
def test_images_and_texts_share_pools(digits_dir, tmp_path):
    """Networks of different families, kinds of tasks and batch shapes."""
    text = (
        "digits; text: task=next_token, data.name=python_sources, data.context_length=16, "
        "data.train_split=train[:1%], data.eval_split=test[:1%], model.name=gpt2_small"
    )
    config = config_of(digits_dir, text, method__target_size=300_000)
    run = Run.from_config(config)
    assert run.example["text"].shape == (1, 16)
    batch = first_batch(run)
    logits = {"digits": jnp.zeros((64, 10)), "text": jnp.zeros((64, 16, 97))}
    loss = jnp.mean(run.task.measure(logits, batch, 0.0)["loss"])
    assert float(loss) == pytest.approx(np.log(10) + np.log(97), rel=1e-4)


@pytest.mark.slow
def test_the_commands_know_tasks(run, grown, run_python, tmp_path):
    output = tmp_path / "shared.smh"
    said = run_python(
        *("-m", "smh_jax.export", f"--workdir={grown[1]}", "--all_tasks", f"--output={output}")
    ).stdout
    accuracies = [line.split()[-1] for line in said.splitlines()[1:-1]]
    assert accuracies == [f"{of['accuracy']:.2%}" for of in (*run[2]["tasks"], *grown[2]["tasks"])]
    said = run_python("-m", "smh_jax.predict", str(output), "--eval", "--task=plain").stdout
    assert f"accuracy {run[2]['tasks'][0]['accuracy']:.2%}, loss " in said
    alone = tmp_path / "alone.smh"
    flags = (f"--artifact={output}", "--task=inverted", "--noevaluate", f"--output={alone}")
    run_python("-m", "smh_jax.export", *flags)
    wanted = from_run.read_artifact(run[1], task="inverted")
    assert_close(artifacts.load(alone).stored, wanted.stored)
