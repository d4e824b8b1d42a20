"""From a trained run to a file, by the commands, and back to predictions."""

import json
import re

import jax
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

import smh_jax
from smh_jax.shipping import artifact, from_run
from smh_jax.training import trained
from smh_jax.training.loop import train_and_evaluate
from tests.small import digits_config

# All look at one run and its export, which take longest.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    """A run of two epochs whose averages differ from its last variables."""
    workdir = tmp_path_factory.mktemp("run")
    config = digits_config(digits_dir, epochs=2.0, optimizer__ema_decay=0.9)
    return workdir, train_and_evaluate(config, workdir)


@pytest.fixture(scope="module")
def exported(run, run_python, tmp_path_factory):
    """What the command prints, and the files it writes."""
    folder = tmp_path_factory.mktemp("exported")
    done = run_python(
        *("-m", "smh_jax.export", f"--workdir={run[0]}", f"--output={folder / 'model.smh'}"),
        *(f"--onnx={folder / 'model.onnx'}", f"--stablehlo={folder / 'model.stablehlo'}"),
    )
    return folder, done.stdout


def test_the_command_prints_bytes_and_accuracy_of_every_precision(run, exported):
    folder, output = exported
    rows = re.findall(r"^(\w+) +([\d,]+) +([\d.]+)%$", output, re.MULTILINE)
    assert [row[0] for row in rows] == list(artifact.PRECISIONS)
    sizes = [int(row[1].replace(",", "")) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (folder / "model.smh").stat().st_size
    # The export at full precision is the run.
    assert float(rows[0][2]) == pytest.approx(100 * run[1]["test_accuracy"], abs=0.01)
    for name in ("model.smh", "model.onnx", "model.stablehlo"):
        assert f"{name}: float32, {(folder / name).stat().st_size:,} bytes" in output


def test_the_file_holds_what_the_run_is_evaluated_with(run, exported):
    workdir, result = run
    loaded = smh_jax.load(exported[0] / "model.smh")
    found = trained.read(workdir)
    for name, tree in (("variables", found.variables), ("model_state", found.model_state)):
        jax.tree.map(np.testing.assert_array_equal, getattr(loaded, name), tree)
    assert loaded.accuracy["accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-6)
    assert loaded.accuracy["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    assert loaded.accuracy["examples"] == 360
    assert loaded.class_names == tuple("0123456789")
    described = f"Artifact(cifar_resnet8, {loaded.method!r}, float32, accuracy "
    assert repr(loaded) == f"{described}{result['test_accuracy']:.2%})"
    assert loaded.provenance["steps"] == result["steps"]
    assert loaded.provenance["command"] == result["command"]
    assert loaded.method == found.run.method


def test_what_is_exported_are_the_averages(run):
    from smh_jax.training.checkpoint import Checkpoints

    with Checkpoints(run[0], keep=2) as checkpoints:
        state = checkpoints.read()
    exported = from_run.read_artifact(run[0]).stored
    for group in ("pools", "stored"):
        averages = jax.tree.leaves(state["ema"]["variables"][group])
        last = jax.tree.leaves(state["variables"][group])
        for mean, end, found in zip(averages, last, jax.tree.leaves(exported[group]), strict=True):
            np.testing.assert_array_equal(found, mean)
            assert np.any(found != end)


def test_predicting_measures_the_artifact(exported, run, run_python):
    done = run_python("-m", "smh_jax.predict", str(exported[0] / "model.smh"), "--eval")
    assert f"accuracy {run[1]['test_accuracy']:.2%}" in done.stdout
    assert "360 examples" in done.stdout


def test_predicting_classifies_image_files(exported, digits_dir, run_python, tmp_path):
    digits = tfds.load("digits", split="test[:3]", data_dir=digits_dir, batch_size=-1)
    pixels = np.asarray(digits["image"])
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        # Colours are turned to the grey that the model sees, and the alpha channel is dropped.
        PIL.Image.fromarray(image[..., 0]).convert("RGBA").save(path)
    model = exported[0] / "model.smh"
    done = run_python("-m", "smh_jax.predict", str(model), *map(str, paths), "--top=2")
    probabilities = smh_jax.load(model).predict(pixels)
    for line, path, row in zip(done.stdout.splitlines(), paths, probabilities, strict=True):
        first, second = np.argsort(-row)[:2]
        assert line == f"{path}: {first} {row[first]:.1%}, {second} {row[second]:.1%}"


def test_mistakes_are_told_in_one_line(exported, run_python):
    model = exported[0] / "model.smh"
    before = model.read_bytes()
    done = run_python(
        "-m", "smh_jax.export", f"--artifact={model}", f"--output={model}", check=False
    )
    assert done.returncode == 1
    assert "exists; choose another name" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert model.read_bytes() == before
    with pytest.raises(ValueError, match="/nowhere holds no run"):
        from_run.read_artifact("/nowhere")
    with pytest.raises(ValueError, match="is not an image that can be read"):
        smh_jax.load(model).preprocessing.load(model)


def test_an_artifact_is_exported_again_at_another_precision(exported, tmp_path, run_python):
    model = exported[0] / "model.smh"
    done = run_python(
        *("-m", "smh_jax.export", f"--artifact={model}", f"--output={tmp_path / 'small.smh'}"),
        *("--precision=int8", "--compress", "--noevaluate"),
    )
    small = smh_jax.load(tmp_path / "small.smh")
    assert small.precision == "int8"
    assert small.accuracy == {}
    assert (tmp_path / "small.smh").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert json.dumps(small.provenance) == json.dumps(smh_jax.load(model).provenance)
    assert "small.smh: int8" in done.stdout


def test_a_coded_file_predicts_as_it_was_measured(exported, run, tmp_path, run_python):
    coded = tmp_path / "coded.smh"
    done = run_python(
        *("-m", "smh_jax.export", f"--workdir={run[0]}", f"--output={coded}"),
        "--precision=coded:0.4",
    )
    # The table has the precision that was asked for besides all others, and the dense bytes.
    ((size, measured),) = re.findall(r"^coded:0.4 +([\d,]+) +([\d.]+%)$", done.stdout, re.MULTILINE)
    assert int(size.replace(",", "")) == coded.stat().st_size
    weights = smh_jax.load(coded).method.manifest.num_weights
    assert f"all weights in float32: {4 * weights:,} bytes" in done.stdout
    done = run_python("-m", "smh_jax.predict", str(coded), "--eval")
    assert f"accuracy {measured}" in done.stdout
