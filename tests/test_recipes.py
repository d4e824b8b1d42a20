"""Every config file: it resolves, its state has shapes, and its steps lower, for 8 devices."""

import dataclasses
import importlib
import json
import pathlib
import re
import tempfile

import jax
import jax.numpy as jnp
import pytest

from benchmarks import tpu_compile
from configs import imagenet_efficientnet, imagenet_mobilenet, imagenet_resnet
from smh_jax import config as configs
from smh_jax import models
from smh_jax.manifest import Manifest
from smh_jax.tpu_compiler import results
from smh_jax.training import optim, tasks
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from tests.conftest import ROOT

IMAGENET_EXAMPLES = 1_281_167
FILES = sorted(
    path.stem for path in (ROOT / "configs").glob("*.py") if "def get_config" in path.read_text()
)
VARIANTS = (
    *((file, "") for file in FILES),
    ("imagenet_resnet", "variant=101,target_size=5500000"),
    ("imagenet_resnet", "variant=18,method=dense"),
    ("imagenet_efficientnet", "variant=b0,target_size=2000000,scale=fixed"),
    ("imagenet_efficientnet", "variant=b4,target_size=5000000"),
    ("imagenet_efficientnet", "variant=b6,target_size=5300000"),
    ("imagenet_efficientnet", "method=multi_hash"),
    ("imagenet_efficientnet", "method=dense"),
    ("imagenet_mobilenet", "variant=v2,target_size=1750000"),
    ("imagenet_mobilenet", "variant=v2,target_size=1750000,method=multi_hash"),
    ("imagenet_mobilenet", "variant=v3_small,method=dense"),
    ("imagenet_vit", "variant=ti,method=dense"),
)


def resolve(file, text=""):
    return configs.from_config_dict(importlib.import_module(f"configs.{file}").get_config(text))


def lower(file, text=""):
    """What the lowered steps of a variant say of themselves; for the devices of this process."""
    config = resolve(file, text)
    if config.data.name.startswith("tokens:"):
        # All that is known of it before it is read.
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "vocabulary.json").write_text('{"num_tokens": 50257, "dtype": "uint16"}')
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, name=f"tokens:{folder}")
        )
    task = tasks.of_name(config.task)
    dataset = task.describe(config.data)
    model = models.create(
        config.model.name, num_classes=dataset.num_classes, **config.model.options
    )
    # The initial values, which take long to measure, do not enter the programs' shapes.
    manifest = Manifest.from_model(
        model,
        task.example(dataset),
        hashed=config.method.hashed,
        measure=False,
        example_kwargs={"train": False},
    )
    run = Run.from_config(config, manifest)
    steps = Program.for_run(run, num_examples=IMAGENET_EXAMPLES)
    devices = jax.device_count()

    def on_devices(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), tree)

    def batch(size):
        return on_devices(task.abstract_batch(dataset, size // devices, config.data.image_dtype))

    state = on_devices(jax.eval_shape(steps.init_state))
    lowered = steps.train_step.lower(state, batch(config.data.batch_size))
    next_state, _ = lowered.out_info
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype.name), tree)  # noqa: E731
    eval_batch = batch(config.data.eval_batch_size // devices * devices)
    target = eval_batch["label" if task.takes == "images" else "next"]
    eval_batch["mask"] = jax.ShapeDtypeStruct(target.shape, jnp.float32)
    steps.eval_step.lower(state, eval_batch)
    return {
        "num_variables": run.method.num_variables,
        "target_size": config.method.target_size,
        "same_state": describe(next_state) == describe(state),
        "averages": state.ema is not None,
        "lines": lowered.as_text().count("\n"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text"), [pytest.param(*variant, id="|".join(variant)) for variant in VARIANTS]
)
def test_the_steps_lower(file, text, run_python):
    code = (
        "import json\n"
        "from tests import test_recipes\n"
        f"print(json.dumps(test_recipes.lower({file!r}, {text!r})))\n"
    )
    found = json.loads(run_python("-c", code, devices=8).stdout.splitlines()[-1])
    assert found["same_state"]
    if found["target_size"] is not None:
        assert 0.98 * found["target_size"] < found["num_variables"] <= found["target_size"]
    assert found["averages"] == (file in ("imagenet_efficientnet", "imagenet_mobilenet"))
    assert found["lines"] > 1000


def test_every_config_is_found():
    assert {"digits", "fashion_mnist", "cifar10", "imagenet_resnet"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_config_opens_with_its_command(file):
    text = importlib.import_module(f"configs.{file}").__doc__
    assert f"python -m smh_jax.main --config=configs/{file}.py" in text
    if file.startswith("imagenet"):
        assert "TPU v3" in text
        assert "accurac" in text


def peak(config):
    """The learning rate at the recipe's batch."""
    schedule = optim.learning_rate(
        config.optimizer,
        batch_size=config.data.batch_size,
        steps_per_epoch=IMAGENET_EXAMPLES / config.data.batch_size,
        num_steps=10**6,
    )
    return max(float(schedule(step)) for step in range(0, 10_000, 10))


def test_rates_and_regularisers_are_the_papers():
    """Of Goyal et al., Tan & Le, Sandler et al. and Howard et al."""
    resnet = resolve("imagenet_resnet", "method=dense")
    assert peak(resnet) == pytest.approx(0.1 * 1024 / 256, rel=0.01)
    assert (resnet.optimizer.weight_decay, resnet.optimizer.label_smoothing) == (1e-4, 0.0)
    assert (resnet.epochs, resnet.optimizer.ema_decay, resnet.batch_norm) == (90, None, "local")
    efficientnet = resolve("imagenet_efficientnet")
    assert peak(efficientnet) == pytest.approx(0.016 * 2048 / 256, rel=0.01)
    assert efficientnet.optimizer.epsilon == 1e-3
    assert (efficientnet.epochs, efficientnet.batch_norm) == (350, "grouped")
    assert efficientnet.data.image_size == 260
    v2 = resolve("imagenet_mobilenet", "variant=v2")
    assert peak(v2) == pytest.approx(0.045 * 1536 / 96)
    assert (v2.optimizer.epsilon, v2.optimizer.warmup_epochs, v2.epochs) == (1.0, 0.0, 300)
    v3 = resolve("imagenet_mobilenet")
    assert peak(v3) == pytest.approx(0.1, rel=0.01)
    assert (v3.data.preprocessing, v3.optimizer.weight_decay) == ("inception", 1e-5)
    vit = resolve("imagenet_vit", "method=dense")
    assert peak(vit) == pytest.approx(0.0005 * 1024 / 512, rel=0.01)
    assert (vit.optimizer.name, vit.optimizer.weight_decay, vit.epochs) == ("adamw", 0.05, 300)
    assert vit.model.options["stochastic_depth_rate"] == 0.1
    for config in (efficientnet, v2, v3):
        assert config.optimizer.name == "rmsprop"
        assert (config.optimizer.ema_decay, config.optimizer.label_smoothing) == (0.9999, 0.1)
    for config in (resnet, efficientnet, v2, v3, vit):
        assert config.model.options["dtype"] == config.data.image_dtype == "bfloat16"
        assert config.optimizer.weight_decay_on == "weights"


def test_arguments_choose_the_variant():
    config = resolve("imagenet_efficientnet", "variant=b4,target_size=5000000,scale=fixed,seed=2")
    assert config.model.name == "efficientnet_b4"
    assert config.model.options["dropout_rate"] == 0.4
    assert (config.method.target_size, config.method.options["scale"]) == (5_000_000, "fixed")
    assert (config.data.image_size, config.seed) == (380, 2)
    assert config.data.batch_size % (32 * config.optimizer.accumulate_steps) == 0
    config = resolve("imagenet_resnet", "hashed=conv,method=multi_hash")
    assert (config.method.hashed, config.method.options["num_hashes"]) == ("conv", 1)


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        (imagenet_resnet, "variant=b0", "variant='b0' must be of type int"),
        (imagenet_resnet, "variant=51", "model name='resnet51' is unknown; did you mean resnet50"),
        (imagenet_efficientnet, "variant=b9", "variant=b9 is unknown; did you mean b7"),
        (imagenet_efficientnet, "accelerator=v2-8", "accelerator='v2-8' is unknown; did you mean"),
        (imagenet_efficientnet, "accelerator=v4-33", "must end in 2 for each device, as v4-16"),
        (imagenet_efficientnet, "accelerator=v3-48", "devices must divide the batch of 2048"),
        (imagenet_efficientnet, "accelerator=v3-x", "'v3-x' must end in 1 for each device"),
        (imagenet_mobilenet, "varient=v2", "'varient' is unknown; did you mean variant"),
    ],
)
def test_bad_arguments(module, text, message):
    with pytest.raises(ValueError, match=message):
        Run.from_config(configs.from_config_dict(module.get_config(text)))


@pytest.mark.parametrize(
    ("accelerator", "devices", "parts"),
    [
        ("v3-32", 32, [1, 2, 4, 8]),
        ("v4-32", 16, [1, 2, 4, 8]),
        ("v5litepod-16", 16, [2, 4, 8, 16]),
        ("v5p-32", 16, [1, 1, 1, 4]),
        ("v6e-16", 16, [1, 2, 4, 8]),
        # As many images for each device as on v3-32.
        ("v5litepod-32", 32, [1, 2, 4, 8]),
    ],
)
def test_microbatches_by_accelerator(accelerator, devices, parts):
    """Of B4 to B7; the recipe's batch stays."""
    for variant, expected in zip(("b4", "b5", "b6", "b7"), parts, strict=True):
        config = resolve("imagenet_efficientnet", f"variant={variant},accelerator={accelerator}")
        assert config.optimizer.accumulate_steps == expected
        assert config.data.batch_size == 2048
        assert config.data.batch_size % (devices * expected) == 0


@pytest.mark.parametrize("topology", tpu_compile.NEWER_TOPOLOGIES)
def test_presets_fit_by_the_tpu_compilers_word(topology):
    rows = results.Results(ROOT / "benchmarks/results/tpu_compile.json").rows
    for variant in ("b4", "b5", "b6", "b7"):
        row = rows[f"{tpu_compile.preset(variant, topology)} {topology}"]
        assert row.fits
        assert row.topology == topology
        assert row.batch_size == 2048


def test_a_core_takes_what_fits_it_by_the_tpu_compilers_word():
    rows = results.Results(ROOT / "benchmarks/results/tpu_compile.json").rows
    largest = {}
    for name, row in rows.items():
        # The recipe is for 32 cores of this generation.
        if row.topology != "v3:4x4":
            continue
        if row.fits and row.parts == 1 and (match := re.search(r":variant=(b\d),", name)):
            largest[match[1]] = max(largest.get(match[1], 0), row.batch_per_core)
    assert sorted(largest) == ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"]
    for variant, batch_per_core in largest.items():
        config = resolve("imagenet_efficientnet", f"variant={variant}")
        at_once = config.data.batch_size // 32 // config.optimizer.accumulate_steps
        assert at_once <= batch_per_core
        # In parts only where it must be.
        assert (at_once < 64) == (batch_per_core < 64)


def test_devices_that_the_recipe_is_not_for():
    config = resolve("imagenet_efficientnet", "variant=b6,target_size=5000000")
    with pytest.raises(ValueError, match="batch_norm_group_size=8 does not divide the 4 devices"):
        Run.from_config(config, num_devices=4)
    message = "not divisible by the 24 devices times optimizer.accumulate_steps=4; use 2016 or 2112"
    with pytest.raises(ValueError, match=f"data.batch_size=2048 is {message}"):
        Run.from_config(config, num_devices=24)
