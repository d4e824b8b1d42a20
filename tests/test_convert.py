"""From a trained dense model to a run that is fine-tuned."""

import dataclasses
import functools
import json

import flax.serialization
import flax.traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from smh_jax import methods
from smh_jax.config import MethodConfig
from smh_jax.shipping import conversion, params_file
from smh_jax.training import trained
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.program import Program
from tests.small import digits_config

SMH = MethodConfig("smh", "all", 1900, methods.default_options("smh"))


@pytest.fixture(scope="module")
def dense(digits_dir, tmp_path_factory):
    """A dense run of 11 steps."""
    workdir = tmp_path_factory.mktemp("dense")
    config = digits_config(
        digits_dir, method__name="dense", method__target_size=None, method__options={}
    )
    train_and_evaluate(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def converted(dense, tmp_path_factory):
    """The same model at a smaller size, at step 0."""
    output = tmp_path_factory.mktemp("runs") / "converted"
    errors = conversion.convert(conversion.of_run(dense, SMH), output)
    return output, errors


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.slow
def test_the_new_run_has_what_was_learned(dense, converted):
    output, errors = converted
    old, new = trained.read(dense), trained.read(output)
    assert (old.step, new.step) == (11, 0)
    assert new.run.method.num_variables <= 1900 < old.run.method.num_variables
    jax.tree.map(np.testing.assert_array_equal, new.model_state, old.model_state)
    fresh = Program.for_run(new.run, 1).init_state()
    one, other = jax.tree.leaves(fresh.model_state)[0], jax.tree.leaves(new.model_state)[0]
    assert not np.array_equal(one, other)
    wanted, made = flat(old.params), flat(new.params)
    for tensor in new.run.method.manifest.tensors:
        difference = np.linalg.norm(made[tensor.name] - wanted[tensor.name])
        if tensor.hashed:
            expected = errors[tensor.name] * np.linalg.norm(wanted[tensor.name])
            assert difference == pytest.approx(expected, rel=1e-3)
            assert 0 < errors[tensor.name] < 1
        else:
            assert difference == 0
    assert json.loads((output / "conversion.json").read_text())["relative_errors"] == errors


@pytest.mark.slow
def test_the_trainer_starts_from_it(converted, digits_dir, tmp_path):
    output, _ = converted
    config = digits_config(
        digits_dir,
        init_from=str(output),
        # A step that is too small to change anything.
        optimizer__learning_rate=1e-30,
        optimizer__schedule="constant",
        optimizer__ema_decay=0.999,
        epochs=0.04,
    )
    assert train_and_evaluate(config, tmp_path)["steps"] == 1
    source, averages = trained.read(output), trained.read(tmp_path).variables
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        variables = checkpoints.read()["variables"]
    jax.tree.map(np.testing.assert_array_equal, variables, source.variables)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), averages, source.variables
    )
    random = Program.for_run(source.run, num_examples=1).init_state()
    assert np.any(random.variables["pools"]["u"] != source.variables["pools"]["u"])


@pytest.mark.slow
def test_a_run_that_resumes_needs_its_source_no_more(converted, digits_dir, tmp_path):
    output, _ = converted
    (tmp_path / "source").symlink_to(output)
    config = digits_config(digits_dir, init_from=str(tmp_path / "source"))
    workdir = tmp_path / "run"
    first = train_and_evaluate(config, workdir)
    (tmp_path / "source").unlink()
    assert train_and_evaluate(config, workdir) == first
    with pytest.raises(ValueError, match="holds no run"):
        train_and_evaluate(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_sources_that_do_not_fit(dense, converted, digits_dir, tmp_path):
    output, _ = converted
    cases = (
        ({"init_from": str(dense)}, "method.name: 'dense' there, 'smh' here.*smh_jax.convert"),
        ({"init_from": str(output), "method__target_size": 2500}, "1900.* there, .*2500"),
        ({"init_from": str(output), "method__hashed": "kernels"}, "method.hashed: 'all' there"),
        (
            {"init_from": str(output), "model__name": "cifar_resnet14"},
            "model.name: 'cifar_resnet8'",
        ),
        ({"init_from": str(tmp_path / "nothing")}, "holds no run"),
    )
    for changes, message in cases:
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(digits_config(digits_dir, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["msgpack", "safetensors", "safetensors_dots", "orbax"])
def test_params_on_disk(form, dense, digits_dir, tmp_path):
    found = trained.read(dense)
    collections = jax.tree.map(np.asarray, {"params": found.params, **found.model_state})
    path = tmp_path / {"msgpack": "model.msgpack", "orbax": "model"}.get(form, "model.safetensors")
    if form == "msgpack":
        path.write_bytes(flax.serialization.to_bytes(collections))
    elif form == "orbax":
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, collections)
    else:
        separator = "." if form.endswith("dots") else "/"
        names = flax.traverse_util.flatten_dict(collections, sep=separator)
        safetensors.numpy.save_file({n: np.ascontiguousarray(x) for n, x in names.items()}, path)
    source = conversion.of_params(str(path), digits_config(digits_dir))
    assert source.run.method.name == "smh"
    jax.tree.map(np.testing.assert_array_equal, source.params, collections["params"])
    jax.tree.map(np.testing.assert_array_equal, source.model_state, found.model_state)


@pytest.mark.slow
def test_params_that_do_not_fit(dense, digits_dir, tmp_path):
    found = trained.read(dense)
    params = jax.tree.map(np.asarray, found.params)
    path = tmp_path / "model.msgpack"
    path.write_bytes(flax.serialization.to_bytes(params))
    assert set(params_file.read(path)) == {"params"}
    with pytest.raises(ValueError, match="has no batch_stats"):
        conversion.of_params(str(path), digits_config(digits_dir))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        params_file.read(path)
    for name, message in (("model.pkl", "must be a file"), ("missing", "does not exist")):
        if "." in name:
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(ValueError, match=message):
            params_file.read(tmp_path / name)
    sound = {"params": params, **jax.tree.map(np.asarray, found.model_state)}
    kernel = sound["params"]["conv"]["kernel"]
    for value, message in (
        (np.where(kernel == kernel.max(), np.nan, kernel), "conv/kernel holds something else than"),
        (kernel.astype(np.int32), "conv/kernel holds something else than finite numbers"),
        (kernel[0], r"conv/kernel is \(3, 1, 4\), not \(3, 3, 1, 4\)"),
        ({"x": kernel}, "conv/kernel is missing; conv/kernel/x is not a tensor of the model"),
    ):
        path.write_bytes(
            flax.serialization.msgpack_serialize(
                {**sound, "params": {**params, "conv": {"kernel": value}}}
            )
        )
        with pytest.raises(ValueError, match=f"{path} does not fit 'cifar_resnet8': .*{message}"):
            conversion.of_params(str(path), digits_config(digits_dir))
    partial = {"conv": params["conv"]}
    source = dataclasses.replace(conversion.of_run(dense, SMH), params=partial)
    with pytest.raises(ValueError, match="bn/scale is missing"):
        conversion.convert(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_command(dense, converted, digits_dir, tmp_path, run_python):
    done = run_python(
        *("-m", "smh_jax.convert", f"--workdir={dense}", "--target_size=1900"),
        f"--output={tmp_path / 'new'}",
    )
    assert "stage3_block1/conv2/kernel" in done.stdout
    output, errors = converted
    made = json.loads((tmp_path / "new" / "conversion.json").read_text())["relative_errors"]
    assert made == pytest.approx(errors, rel=1e-4)
    with pytest.raises(ValueError, match=f"output={output} is not empty"):
        conversion.convert(conversion.of_run(dense, SMH), output)
