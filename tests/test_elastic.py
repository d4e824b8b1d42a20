"""One run that trains several sizes of a model at once."""

import dataclasses
import functools
import hashlib
import json
import shutil

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
from etils import epath

from smh_jax import Manifest, inspect, methods
from smh_jax.config import OptimizerConfig
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping import from_run, onnx, stablehlo
from smh_jax.shipping.on_the_fly import predict
from smh_jax.training import elastic, forward, losses, optim, parallel, run_figures, trained
from smh_jax.training.checkpoint import Checkpoints, named_leaves
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.run import Run
from smh_jax.training.step import init_state, train_step
from tests.numerics import random_like
from tests.small import TwoLayers, digits_config, few_quick

IMAGES = (1, 8, 8, 1)
SIZES = (130, 190, 250)


@functools.cache
def manifest():
    return Manifest.from_model(TwoLayers(), IMAGES)


def method_of(target_size=330, sizes=SIZES, **options):
    return methods.elastic(
        methods.create("smh", manifest(), target_size=target_size, **options), sizes
    )


@pytest.mark.parametrize(
    "options",
    few_quick(
        [{"blocks": 2}, {"scale": "fixed", "layout": "kronecker"}, {}, {"scale_per": "channel"}], 2
    ),
    ids=str,
)
def test_a_size_in_the_largest_equals_that_size_alone(options):
    method = method_of(390, (150, 230), **options)
    variables = random_like(method.abstract_variables)
    masked = jax.jit(lambda index, v: method.at_size(index).materialize(v))
    made = [masked(index, variables) for index in range(3)]
    cut = [method.cut(index, variables) for index in range(3)]
    owns = [own for _, own in cut]
    each = jax.jit(lambda owns: [m.materialize(own) for (m, _), own in zip(cut, owns, strict=True)])
    for index, (params, (alone, own), its) in enumerate(zip(made, cut, each(owns), strict=True)):
        assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, alone.abstract_variables)
        assert alone.num_variables <= method.sizes[index]
        assert own["pools"]["u"].shape[-1] == method.num_hash_pairs[index]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5),
                     params, its)  # fmt: skip
    largest = jax.jit(method.materialize)(variables)
    jax.tree.map(np.testing.assert_array_equal, largest, made[2])
    name = method.manifest.hashed[-1].name
    weights = [np.asarray(manifest().leaves(params)[name]) for params in made]
    assert np.abs(weights[0] - weights[2]).max() > 0.01 < np.abs(weights[0] - weights[1]).max()
    if options == {}:
        # Generated layer by layer, as in inference on the fly.
        at_size = method.at_size(jnp.int32(0))
        part = jax.jit(lambda variables: at_size.materialize_part(variables, 0, 2, 0))(variables)
        leaves = manifest().leaves(made[0])
        assert len(part) == 2
        for name, weight in part.items():
            np.testing.assert_allclose(weight, leaves[name], 1e-5, 1e-6)


def test_every_size_has_the_deviation_of_the_initializer():
    model = TwoLayers(num_classes=1000)
    wide = Manifest.from_model(model, IMAGES)
    plain = methods.create("smh", wide, target_size=9_500)
    method = methods.elastic(plain, (3_000, 5_000))
    pools = method.init(jax.random.key(1))["pools"]
    pairs = method.num_hash_pairs
    assert pairs[2] > 3 * pairs[0]
    for index in range(3):
        alone, own = method.cut(index, {"pools": pools, "stored": {}, "scales": jnp.ones((3, 6))})
        weights = jnp.concatenate([jnp.ravel(w) for w in alone.generate(own["pools"])])
        assert float(jnp.std(weights)) == pytest.approx(1, abs=0.1)
    plainly_cut = pools["u"][:, : pairs[0]] @ pools["v"][: pairs[0]]
    assert float(jnp.std(plainly_cut)) < 0.6


@pytest.mark.parametrize("target_size", [331, 345, 380, 399])
def test_all_that_is_trained_fits_the_target(target_size):
    method = method_of(target_size)
    scales = method.abstract_variables["scales"]
    assert scales.shape == (4, 6)
    assert target_size - method.inner.min_pool_size < method.num_variables <= target_size
    assert method.summary["num_scales"] == 24
    assert method.num_variables == sum(x.size for x in jax.tree.leaves(method.abstract_variables))


def test_every_size_starts_and_is_fitted_with_the_largest_one_s_scales():
    method = method_of()
    params = jax.jit(functools.partial(TwoLayers().init, train=False))(
        jax.random.key(0), jnp.ones(IMAGES)
    )["params"]
    fitted, largest = method.fit(params), method.inner.fit(params)
    np.testing.assert_array_equal(fitted["pools"]["u"], largest["pools"]["u"])
    for scales in fitted["scales"]:
        np.testing.assert_array_equal(scales, largest["scales"])
    assert np.ptp(np.asarray(largest["scales"])) > 0


def test_sizes_that_cannot_be():
    for sizes, message in (
        ((330,), r"elastic.sizes=\(330,\): 330 must be below method.target_size=330"),
        ((0.99,), "must be below method.target_size=330, which is trained in any case"),
        ((190, 191), "190 has 4 hash pairs and 191 4: a hash pair is "),
        ((329,), "329 has .* hash pairs and 330 .*are scales of the others"),
        ((30,), "30 leaves .*the smallest possible target is"),
    ):
        with pytest.raises(ValueError, match=message):
            method_of(sizes=sizes)
    with pytest.raises(ValueError, match=r"matrix=.rectangular. goes without elastic\.sizes"):
        method_of(matrix="rectangular")
    with pytest.raises(ValueError, match="goes with method 'smh', not 'low_rank'"):
        methods.elastic(methods.create("low_rank", manifest(), target_size=330), SIZES)
    with pytest.raises(ValueError, match="size=200 is none of those that were trained: 130, 190, "):
        method_of().index_of(200)
    with pytest.raises(ValueError, match=r"size=1\.5 must be a whole number"):
        method_of().index_of(1.5)
    assert method_of().index_of(190) == method_of().index_of(190 / manifest().num_weights) == 1


def batch_of(size=8):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(size, *IMAGES[1:])).astype(np.float32)
    return {"image": images, "label": generator.integers(10, size=size)}


def stepped(method, devices=1, backend="shard_map", step=0, **fields):
    """The state before and after one step, on so many devices."""
    config = OptimizerConfig(name="sgd", learning_rate=1.0, label_smoothing=0.1, **fields)
    optimizer = optim.create(config, optax.constant_schedule(1.0))
    static = {"model": TwoLayers(axis_name=None), "method": method, "optimizer": optimizer}
    state = init_state(**static, input_shape=IMAGES, seed=0, ema=config.ema_decay is not None)
    variables = random_like(state.variables)
    # Deviations of batch statistics are above 0.
    model_state = jax.tree.map(jnp.abs, random_like(state.model_state, seed=1))
    state = state.starting_from(variables, model_state).replace(step=jnp.int32(step))
    mapped = parallel.backend(backend).map_replicas(
        functools.partial(train_step, **static, config=config, seed=3, num_drawn=1),
        donate_state=False,
        devices=jax.local_devices()[:devices],
    )
    after, measured = mapped(state, batch_of())
    return state, after, measured


def drawn_at(method, step):
    return int(elastic.of_step(method, 1, 3, jnp.int32(step)).indices[2])


@pytest.mark.parametrize("accumulate_steps", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_step_lowers_the_sum_of_all_losses(accumulate_steps):
    """Written out: the labels for the largest, its logits for the others, each by itself."""
    method = method_of()
    state, after, _ = stepped(
        method, accumulate_steps=accumulate_steps, weight_decay=0.01, weight_decay_on="weights"
    )
    drawn = drawn_at(method, 0)
    assert drawn in (1, 2)
    model, batch = TwoLayers(), batch_of()

    def loss(variables, begin, size):
        part = {key: value[begin : begin + size] for key, value in batch.items()}
        total, states, teacher = 0.0, {}, None
        for index in (3, 0, drawn):
            alone, own = method.cut(index, variables)
            params = alone.materialize(own)
            at = jax.tree.map(lambda x, index=index: x[index], state.model_state)
            logits, states[index] = forward.training_logits(
                model, params, at, part["image"], jax.random.key(0)
            )
            if teacher is None:
                teacher = jax.lax.stop_gradient(jax.nn.log_softmax(logits))
                total += jnp.mean(losses.cross_entropy(logits, part["label"], 0.1))
                total += 0.01 * losses.half_squared_norm(alone, own, params, "weights")
            else:
                gap = teacher - jax.nn.log_softmax(logits)
                share = alone.num_hash_pairs / method.inner.num_hash_pairs
                assert share < 0.9
                total += share**0.5 * jnp.mean(jnp.sum(jnp.exp(teacher) * gap, -1))
        return total, states

    size = len(batch["label"]) // accumulate_steps
    gradient_of = jax.jit(jax.grad(loss, has_aux=True), static_argnums=(1, 2))
    parts = [
        gradient_of(state.variables, begin, size) for begin in range(0, len(batch["label"]), size)
    ]
    gradient, states = jax.tree.map(lambda *x: sum(x) / accumulate_steps, *parts)
    change = jax.tree.map(lambda a, b: a - b, state.variables, after.variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-3, 1e-4), change, gradient)
    other = {1: 2, 2: 1}[drawn]
    rows = np.asarray(gradient["scales"])
    assert not rows[other].any()
    assert all(rows[index].any() for index in (0, drawn, 3))
    for index in range(4):
        before, now = (
            jax.tree.leaves(jax.tree.map(lambda x, i=index: x[i], s.model_state))
            for s in (state, after)
        )
        wanted = before if index == other else jax.tree.leaves(states[index])
        for a, b in zip(now, wanted, strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-6)
        assert any(np.any(a != b) for a, b in zip(before, now, strict=True)) == (index != other)


def test_what_is_drawn_is_a_function_of_seed_and_step():
    method = method_of()
    draws = [drawn_at(method, step) for step in range(12)]
    assert draws == [drawn_at(method, step) for step in range(12)]
    assert set(draws) == {1, 2}
    every = elastic.of_step(method, 5, 3, jnp.int32(0)).indices
    assert every == (3, 0, 1, 2)
    assert elastic.of_step(method, 0, 3, jnp.int32(0)).indices == (3, 0)


def config_of(digits_dir, **changes):
    sizes = {"elastic__sizes": (900, 0.25), "elastic__drawn": 1}
    return digits_config(digits_dir, **sizes, **changes)


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    """A finished run, and its result."""
    workdir = tmp_path_factory.mktemp("elastic")
    config = config_of(digits_dir, optimizer__ema_decay=0.9, optimizer__accumulate_steps=2)
    return config, workdir, train_and_evaluate(config, workdir)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_says_how_good_every_size_is(run):
    _, workdir, result = run
    sizes = result["sizes"]
    method = Run.in_folder(workdir).method
    assert [of["size"] for of in sizes] == list(method.sizes)
    assert method.sizes[0] == 900
    assert method.sizes[-1] == result["target_size"] == 1900
    assert sizes[0]["num_variables"] < sizes[1]["num_variables"] < sizes[2]["num_variables"]
    assert all(of["num_variables"] <= of["size"] for of in sizes)
    assert result["num_variables"] <= 1900
    assert sizes[-1]["accuracy"] == result["test_accuracy"]
    last = rows(workdir)[-1]
    for of in sizes:
        assert last[f"test_accuracy_{of['size']}"] == of["accuracy"]
        assert last[f"test_loss_{of['size']}"] == of["loss"]
    assert len({of["loss"] for of in sizes}) == 3


@pytest.mark.slow
def test_an_exported_size_is_as_good_as_the_run_said(run, tmp_path):
    config, workdir, result = run
    for size, of in zip((900, 0.25, None), result["sizes"], strict=True):
        artifact = from_run.read_artifact(workdir, size)
        assert type(artifact.method) is methods.SMH
        assert artifact.method.num_variables == of["num_variables"]
        assert artifact.provenance["test_accuracy"] == of["accuracy"]
        saved = artifacts.save(tmp_path / f"{of['size']}.smh", artifact)
        loaded = artifacts.load(tmp_path / f"{of['size']}.smh")
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, saved.variables)
        if size != 0.25:
            measured = from_run.with_accuracy(loaded, config.data).accuracy
            assert measured["loss"] == pytest.approx(of["loss"], rel=1e-3)
            assert measured["accuracy"] == pytest.approx(of["accuracy"], abs=1e-6)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir(), key=lambda p: p.name)]
    assert len(set(sizes)) == 3


@pytest.mark.slow
def test_a_size_of_a_file_computes_the_same_in_every_form(files):
    """Layer by layer, in ONNX and in StableHLO, from pools of 8 bits."""
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    expected = {}
    for size in (900, 1900):
        loaded = artifacts.load(files[1] / "int8", size=size)
        expected[size] = np.asarray(loaded.logits(images))
        on_the_fly = jax.jit(predict(loaded.module, loaded.method))(
            loaded.variables, dict(loaded.model_state), images
        )
        program = jax.export.deserialize(bytearray(stablehlo.export(loaded)))
        session = onnxruntime.InferenceSession(onnx.export(loaded))
        (logits,) = session.run(["logits"], {"images": images})
        for computed in (on_the_fly, program.call(images), logits):
            np.testing.assert_allclose(computed, expected[size], 1e-4, 1e-4)
    assert np.abs(expected[900] - expected[1900]).max() > 1e-2


@pytest.mark.slow
def test_several_devices_take_the_step_of_as_many_microbatches(run_python, tmp_path):
    code = (
        "import jax, numpy as np\n"
        "from tests import test_elastic as test\n"
        "method = test.method_of()\n"
        "states = [test.stepped(method, **how)[1] for how in (\n"
        "    {'devices': 2}, {'accumulate_steps': 2}, {'devices': 2, 'accumulate_steps': 2})]\n"
        "flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(s)]) for s in states]\n"
        f"np.save({str(tmp_path / 'states.npy')!r}, flat)\n"
    )
    run_python("-c", code, devices=2)
    devices, microbatches, more = np.load(tmp_path / "states.npy")
    np.testing.assert_allclose(devices, microbatches, 1e-3, 1e-4)
    assert np.abs(devices - more).max() > 1e-2


@pytest.mark.slow
def test_a_picture_of_every_size(run):
    _, workdir, result = run
    (panel,) = run_figures.pictures_of(epath.Path(workdir))["sizes"]
    points = [(point.x, point.y / 100) for point in panel.series[0].points]
    assert points == [
        (of["num_variables"], pytest.approx(of["accuracy"])) for of in result["sizes"]
    ]


@pytest.mark.slow
def test_inspect_shows_the_sizes(run):
    described = inspect.describe_run(Run.in_folder(run[1]))
    pairs = Run.in_folder(run[1]).method.num_hash_pairs
    assert f"size 900: {pairs[0]} hash pairs\n" in described
    assert f"size 1,900: {pairs[-1]} hash pairs\n" in described


@pytest.mark.slow
def test_a_size_that_was_not_trained(run):
    _, workdir, _ = run
    with pytest.raises(ValueError, match=r"size=0.5 is none of those that were trained: 900, "):
        from_run.read_artifact(workdir, 0.5)
    for size in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="must be a whole number of variables, or a share"):
            from_run.read_artifact(workdir, size)


@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit(run, tmp_path):
    config, workdir, result = run
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "11")
    (tmp_path / "run" / "result.json").unlink()
    assert trained.read(tmp_path / "run").step == 8
    again = train_and_evaluate(config, tmp_path / "run")
    assert again["sizes"] == result["sizes"]
    states = []
    for folder in (workdir, tmp_path / "run"):
        with Checkpoints(epath.Path(folder), 2) as checkpoints:
            states.append(named_leaves(checkpoints.read()))
    assert states[0].keys() == states[1].keys()
    assert states[0]["variables/scales"].shape[0] == 3
    for name, leaf in states[0].items():
        np.testing.assert_array_equal(leaf, states[1][name], err_msg=name)


def test_what_an_elastic_run_does_not_do(digits_dir, tmp_path):
    dense = {"method__name": "dense", "method__target_size": None, "method__options": {}}
    for changes, message in (
        (dense, r"method.name='dense' must be 'smh' with elastic.sizes=\(900.0, 0.25\)"),
        ({"pool_precision": "int8"}, "pool_precision='int8' must be 'float32' with elastic.sizes"),
        ({"pruning": 0.5}, "pruning=0.5 must be 0.0 with elastic.sizes"),
        ({"init_from": "somewhere"}, "init_from='somewhere' must be None with elastic.sizes"),
        ({"method__target_bytes": 5000}, "method.target_bytes=5000 must be None with elastic"),
    ):
        with pytest.raises(ValueError, match=message):
            config_of(digits_dir, **changes)
    for sizes, message in (((0,), "0 must be a whole number"), ((1.5,), "1.5 must be a whole")):
        with pytest.raises(ValueError, match=message):
            digits_config(digits_dir, elastic__sizes=sizes)
    with pytest.raises(ValueError, match=r"elastic\.drawn=-1 must be at least 0"):
        digits_config(digits_dir, elastic__drawn=-1)
    with pytest.raises(ValueError, match=r"1900 must be below method\.target_size=1900"):
        train_and_evaluate(digits_config(digits_dir, elastic__sizes=(1900,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """The sizes of a run, and files of all of them at some precisions."""
    folder, by_size = tmp_path_factory.mktemp("files"), from_run.read_sizes(run[1])
    for precision in ("float32", "int8", "coded:0.25"):
        artifacts.save_sizes(folder / precision, by_size, precision=precision)
    return by_size, folder


def assert_equal_models(one, other):
    assert one.method == other.method
    for a, b in ((one.stored, other.stored), (one.model_state, other.model_state)):
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    ["float32", *(pytest.param(p, marks=pytest.mark.slow) for p in ("int8", "coded:0.25"))],
)
def test_the_beginning_of_a_file_is_the_file_of_smaller_sizes(files, precision, tmp_path):
    by_size, folder = files
    data, ends = (folder / precision).read_bytes(), artifacts.ends(folder / precision)
    assert list(ends) == list(by_size)
    assert list(ends.values())[-1] == len(data)
    before = None
    for size, end in ends.items():
        loaded = artifacts.load(folder / precision, size=size)
        beginning = tmp_path / "beginning"
        beginning.write_bytes(data[:end])
        assert_equal_models(artifacts.load(beginning), loaded)
        assert_equal_models(artifacts.load(folder / precision, max_bytes=end), loaded)
        # A download that stopped on the way to the next size, and one that lacks a byte of this.
        beginning.write_bytes(data[: end + 100])
        assert_equal_models(artifacts.load(beginning), loaded)
        beginning.write_bytes(data[: end - 1])
        with pytest.raises(ValueError, match="is not a model that can be loaded: it is cut off"):
            artifacts.load(beginning, size=size)
        if before is None:
            with pytest.raises(ValueError, match=f"the smallest size has {end} bytes"):
                artifacts.load(folder / precision, max_bytes=end - 1)
        else:
            assert_equal_models(artifacts.load(beginning), before)
            assert loaded.method.num_hash_pairs > before.method.num_hash_pairs
        exported = by_size[size]
        assert loaded.provenance["test_accuracy"] == exported.provenance["test_accuracy"]
        if precision == "float32":
            assert_equal_models(loaded, exported)
        else:
            for key in "uv":
                wanted, pool = exported.stored["pools"][key], loaded.stored["pools"][key]
                error = np.std(pool - wanted) / np.std(wanted)
                assert 0 < error < {"int8": 0.01, "coded:0.25": 0.1}[precision]
        before = loaded


@pytest.mark.slow
def test_a_size_of_a_file_is_written_alone(files, tmp_path):
    by_size, folder = files
    artifacts.save(tmp_path / "alone.smh", artifacts.load(folder / "float32", size=900))
    assert (tmp_path / "alone.smh").read_bytes() == artifacts.encode(by_size[900])
    with pytest.raises(ValueError, match="size=900: it holds one size"):
        artifacts.load(tmp_path / "alone.smh", size=900)
    there = (tmp_path / "alone.smh").stat().st_size
    artifacts.load(tmp_path / "alone.smh", max_bytes=there)
    with pytest.raises(ValueError, match=f"it holds one size, of {there} bytes"):
        artifacts.load(tmp_path / "alone.smh", max_bytes=there - 1)


@pytest.mark.slow
def test_files_of_sizes_that_are_not_there_or_damaged(files, tmp_path):
    by_size, folder = files
    sizes = ", ".join(map(str, by_size))
    with pytest.raises(ValueError, match=f"size=1000 is none of those in it: {sizes}"):
        artifacts.load(folder / "int8", size=1000)
    with pytest.raises(ValueError, match="give either size=900 or max_bytes=5000"):
        artifacts.load(folder / "int8", size=900, max_bytes=5000)
    data, (first, *_) = (folder / "int8").read_bytes(), artifacts.ends(folder / "int8").values()
    for place, message in ((30, "its header"), (first - 9, "damaged"), (first + 900, "damaged")):
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ValueError, match=f"is not a model that can be loaded: .*{message}"):
            artifacts.load(tmp_path / "damaged")
    (tmp_path / "damaged").write_bytes(data[:20])
    with pytest.raises(ValueError, match="its header is cut off or damaged"):
        artifacts.load(tmp_path / "damaged")
    for header in (b"[]", b'{"sizes":[{}]}', b'{"sizes":[{"bytes":"9"}]}', b"[" * 100_000, b"{"):
        start = len(header).to_bytes(4, "little") + hashlib.sha256(header).digest() + header
        (tmp_path / "damaged").write_bytes(data[:12] + start)
        with pytest.raises(ValueError, match="is not a model that can be loaded"):
            artifacts.load(tmp_path / "damaged")
    with pytest.raises(ValueError, match="is not of more hash pairs than the size before it"):
        artifacts.save_sizes(tmp_path / "new", dict(reversed(by_size.items())))
    smallest, *_, largest = by_size.values()
    changed = jax.tree.map(lambda x: x + 1e-3, largest.stored)
    others = {900: smallest, 1900: dataclasses.replace(largest, stored=changed)}
    with pytest.raises(ValueError, match="is not the beginning of"):
        artifacts.save_sizes(tmp_path / "new", others)
    with pytest.raises(ValueError, match="exists; choose another name"):
        artifacts.save_sizes(folder / "int8", by_size)


@pytest.mark.slow
def test_the_commands_know_sizes(run, files, run_python, tmp_path):
    _, workdir, result = run
    output = tmp_path / "sizes.smh"
    said = run_python(
        *("-m", "smh_jax.export", f"--workdir={workdir}", "--all_sizes", f"--output={output}")
    ).stdout
    accuracies = [line.split()[-1] for line in said.splitlines()[1:]]
    assert accuracies == [f"{of['accuracy']:.2%}" for of in result["sizes"]]
    assert output.read_bytes()[:12] == (files[1] / "float32").read_bytes()[:12]
    said = run_python("-m", "smh_jax.predict", str(output), "--eval", "--size=900").stdout
    assert f"accuracy {result['sizes'][0]['accuracy']:.2%}, loss " in said
