"""Replicas that several devices share: the numbers of one device, a part of them on each."""

import collections
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from smh_jax import Manifest, methods
from smh_jax import config as configs
from smh_jax.shipping import from_run
from smh_jax.training import divided, evaluation, optim, parallel, streamed, trained
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from smh_jax.training.step import eval_step, train_step
from tests.small import digits_config
from tests.test_step import IMAGES, batches, distance, state_and_static
from tests.test_train import final_state

DEVICES = 8
# Replicas and devices of each; the replicas' microbatches are two in all.
MESHES = ("1x1", "2x1", "1x2", "2x2", "1x4", "2x4")


def named(state, of_leaf):
    """What a function gives of every leaf, by name."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): of_leaf(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def run(mesh, precision="float32", num_steps=2):
    """The leaves after some steps, what was measured, and the shapes on a device."""
    replicas, model_devices = map(int, mesh.split("x"))
    devices = jax.devices()[: replicas * model_devices]
    backend = parallel.backend("shard_map", model_devices)
    state, static = state_and_static(True, None, 0.5, 2 // replicas, clip_norm=0.1)
    static["method"] = methods.rounded(static["method"], precision)
    if model_devices > 1:
        static["model"], static["method"] = streamed.of(static["model"], static["method"])
    config, method = static["config"], static["method"]
    static["optimizer"] = optim.create(config, lambda _: config.learning_rate, method)

    def evaluated(state, batch):
        return eval_step(state.evaluated(), batch, model=static["model"], method=method)

    step, eval_state = (
        backend.map_replicas(function, donate_state=donate, devices=devices)
        for function, donate in (
            (functools.partial(train_step, **static), True),
            (evaluated, False),
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: devices)
        # Small enough for there to be pools to split, none of which can be split evenly.
        patch.setattr(divided, "_LARGE", 100)
        state = backend.replicate(state)
        shapes = named(state, lambda x: x.addressable_data(0).shape)
        measured = []
        for batch in batches(num_steps):
            state, found = step(state, jax.tree.map(backend.split, batch))
            found = backend.first_replica(found).compute()
            measured.append([found[name] for name in ("loss", "accuracy", "grad_norm")])
        batch |= {"mask": np.arange(IMAGES[0], dtype=np.float32) % 2}
        found = eval_state(state, jax.tree.map(backend.split, batch))
        measured.append([*backend.first_replica(found).compute().values(), 0])
        assert named(state, lambda x: x.addressable_data(0).shape) == shapes
        return named(backend.first_replica(state), np.array), np.array(measured), shapes


def write_all(folder):
    """Writes what `run` gives of every mesh, and of rounded pools."""
    for name, *arguments in [(mesh, mesh) for mesh in MESHES] + [
        (f"int8 {mesh}", mesh, "int8") for mesh in ("1x1", "2x4")
    ]:
        leaves, measured, shapes = run(*arguments)
        np.savez(f"{folder}/{name}.npz", **leaves, measured=measured)
        with open(f"{folder}/{name}.json", "w") as file:
            json.dump(shapes, file)


@pytest.fixture(scope="module")
def meshes(run_python, tmp_path_factory):
    """Leaves and shapes by mesh, computed on forced devices."""
    folder = tmp_path_factory.mktemp("meshes")
    code = f"from tests import test_spread; test_spread.write_all({str(folder)!r})"
    run_python("-c", code, devices=DEVICES)
    found = {}
    for path in folder.glob("*.npz"):
        with np.load(path) as content:
            leaves = {n: x for n, x in content.items() if np.issubdtype(x.dtype, np.floating)}
        found[path.stem] = leaves, json.loads(path.with_suffix(".json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES[1:])
def test_any_mesh_has_the_numbers_of_one_device(meshes, mesh):
    assert distance(meshes["1x1"][0], meshes[mesh][0]) < 1e-4


@pytest.mark.slow
def test_rounded_pools_are_rounded_as_a_whole(meshes):
    assert distance(meshes["int8 1x1"][0], meshes["int8 2x4"][0]) < 1e-3
    assert distance(meshes["int8 1x1"][0], meshes["1x1"][0]) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_a_device_holds_its_part_of_the_pools_and_of_all_that_mirrors_them(meshes, mesh):
    leaves, shapes = meshes[mesh]
    model_devices = int(mesh.split("x")[1])
    pools = [name for name in leaves if "/pools/" in f"/{name}"]
    # Of rmsprop's two averages, of the averages and of the variables themselves.
    assert len(pools) == 2 * (2 + 1 + 1)
    for name in pools:
        part = list(leaves[name].shape)
        if model_devices == 1:
            assert shapes[name] == part
            continue
        axis = int(np.argmax(part))
        assert axis == (0 if name.endswith("u") else 1)
        assert part[axis] % model_devices
        part[axis] = -(-part[axis] // model_devices)
        assert shapes[f"{name}/array"] == part


# Trains to the end of each run's epochs: pairs of a config and a folder.
TRAINER = """
import json, sys
from smh_jax import config as configs
from smh_jax.training import divided, loop

divided._LARGE = 100
for path, workdir in json.loads(sys.argv[1]):
    loop.train_and_evaluate(configs.from_config_dict(json.load(open(path))), workdir)
"""


@pytest.mark.slow
def test_a_run_resumes_whether_or_not_devices_share_a_replica(run_python, digits_dir, tmp_path):
    def train(devices, *runs):
        pairs = []
        for workdir, epochs in runs:
            config = digits_config(
                digits_dir,
                epochs=epochs,
                eval_every_epochs=1.0,
                optimizer__schedule="constant",
                optimizer__ema_decay=0.9,
                parallel__backend="shard_map",
                parallel__model_devices=devices // 2,
            )
            path = tmp_path / f"{workdir}.json"
            path.write_text(json.dumps(configs.to_json_dict(config)))
            pairs.append((str(path), str(tmp_path / workdir)))
        run_python("-c", TRAINER, json.dumps(pairs), devices=devices)

    # Two replicas each.
    train(2, ("one", 0.2), ("first", 0.1))
    train(4, ("first", 0.2), ("then", 0.1))
    train(2, ("then", 0.2))
    one, first, then = (final_state(tmp_path / name) for name in ("one", "first", "then"))
    assert distance(one, first) < 1e-4
    assert distance(one, then) < 1e-4
    result = json.loads((tmp_path / "first" / "result.json").read_text())
    assert result["steps"] == 4
    # What is done with a run after training sees no more of it.
    found = trained.read(tmp_path / "first")
    measured = evaluation.evaluate_variables(
        found.run.local_model,
        found.run.method,
        found.variables,
        found.model_state,
        found.config.data,
    )
    assert measured["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    artifact = from_run.read_artifact(tmp_path / "first")
    leaves = named(artifact.variables, np.asarray)
    jax.tree.map(np.testing.assert_array_equal, leaves, named(found.variables, np.asarray))


@pytest.mark.parametrize(
    ("devices", "fields", "message"),
    [
        (4, {"model_devices": 0}, "parallel.model_devices=0 must be at least 1"),
        (4, {"model_devices": 3}, "model_devices=3 does not divide the 4 devices; use 1, 2 or 4"),
        (4, {"model_devices": 2, "backend": "pmap"}, "backend='pmap' must be 'shard_map' with"),
    ],
)
def test_bad_numbers_of_devices(digits_dir, devices, fields, message):
    with pytest.raises(ValueError, match=message):
        Run.from_config(spread_config(digits_dir, **fields), num_devices=devices)


@pytest.mark.parametrize(
    ("field", "value"),
    [("elastic__sizes", (1500.0,)), ("pull__towards__name", "smh"), ("frozen_from", "runs/other")],
)
def test_what_makes_all_weights_at_once_is_refused(digits_dir, field, value):
    dense = {"method__name": "dense"} if field.startswith("pull") else {}
    with pytest.raises(ValueError, match=f"{field.replace('__', '.')}=.* must be .* with parallel"):
        spread_config(digits_dir, **{field: value}, **dense)


def test_a_replica_is_of_one_process(digits_dir):
    run = Run.from_config(spread_config(digits_dir, model_devices=2), num_devices=2)
    with pytest.raises(ValueError, match="model_devices=2 does not divide the 1 devices of each"):
        Program.for_run(run, 100)


def spread_config(data_dir, backend="shard_map", model_devices=2, **changes):
    fields = {"parallel__backend": backend, "parallel__model_devices": model_devices}
    return digits_config(data_dir, **fields, **changes)


class Remembering(nn.Module):
    """Two layers that share a kernel, and one whose inputs are no real numbers."""

    @nn.compact
    def __call__(self, tokens, train):
        shared = self.param("shared", nn.initializers.normal(), (6, 6))
        x = nn.Embed(12, 6)(tokens)
        x = nn.relu(x @ shared) @ jnp.tanh(shared)
        return nn.Dense(3, use_bias=False)(x)


def remembering(name):
    """The model, its tokens, and a method of its weights."""
    model, tokens = Remembering(), jnp.arange(10) % 12
    manifest = Manifest.from_model(
        model, jax.ShapeDtypeStruct((1,), jnp.int32), example_kwargs={"train": False}
    )
    target_size = None if name == "dense" else 60
    return model, tokens, methods.create(name, manifest, target_size=target_size)


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("smh", "multi_hash")), "dense"]
)
def test_a_streamed_model_has_the_models_outputs_and_gradients(name):
    model, tokens, method = remembering(name)
    manifest, variables = method.manifest, method.init(jax.random.key(0))
    made, unmade = streamed.of(model, method)

    def loss(variables, model, method):
        params = method.materialize(variables)
        logits = model.apply({"params": params}, tokens, train=True)
        names = [tensor.name for tensor in method.manifest.tensors]
        return jnp.sum(jnp.sin(logits)) + method.squared_norm(variables, params, names)

    both = jax.jit(jax.value_and_grad(loss), static_argnums=(1, 2))
    expected, found = both(variables, model, method), both(variables, made, unmade)
    if name != "dense":
        # Where all weights are made at once, the squared norm gives each scale two gradients that
        # cancel but for rounding, of up to 26.
        scales = (gradient.pop("scales") for _, gradient in (found, expected))
        np.testing.assert_allclose(*scales, rtol=2e-5, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5), found, expected)
    if name == "dense":
        return
    # No weight is kept for the backward pass.
    _, kept = jax.vjp(lambda variables: loss(variables, made, unmade), variables)
    largest = max(tensor.size for tensor in manifest.tensors)
    assert largest not in [leaf.size for leaf in jax.tree.leaves(kept)]
    _, kept = jax.vjp(lambda variables: loss(variables, model, method), variables)
    assert largest in [leaf.size for leaf in jax.tree.leaves(kept)]


def test_layers_add_what_rows_receive_to_one_gradient_of_u():
    model, tokens, method = remembering("smh")
    made, _ = streamed.of(model, method)
    variables = method.init(jax.random.key(0))
    shape, found = (1, *variables["pools"]["u"].shape), collections.Counter()

    def count(jaxpr):
        for equation in jaxpr.eqns:
            atoms = [*equation.outvars, *equation.invars[:1]]
            if shape in [getattr(atom.aval, "shape", None) for atom in atoms]:
                found[equation.primitive.name] += 1
            for inner in jax.tree.leaves(list(equation.params.values())):
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    count(getattr(inner, "jaxpr", inner))

    def loss(variables):
        return jnp.sum(made.apply({"params": variables}, tokens, train=True))

    count(jax.make_jaxpr(jax.grad(loss))(variables).jaxpr)
    # One for each of the four layers that use weights.
    assert found["addupdate"] == 4
    # Of U's size, but for the slice that is not zero.
    assert not {"dynamic_update_slice", "pad", "add_any"} & set(found)
