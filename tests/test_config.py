"""Configurations: what is refused, and what survives a round trip."""

import dataclasses
import json

import flax.traverse_util
import pytest

from configs import cifar10, digits, fashion_mnist
from smh_jax import config as configs
from smh_jax.config import arguments, resuming
from smh_jax.training import optim


@pytest.mark.parametrize("module", [cifar10, digits, fashion_mnist], ids=lambda m: m.__name__)
@pytest.mark.parametrize("method", ["smh", "dense"])
def test_round_trip(module, method):
    content = module.get_config(f"method={method},seed=3")
    config = configs.from_config_dict(content)
    assert config.seed == 3
    assert config.method.name == method
    assert (config.method.target_size is None) == (method == "dense")
    assert configs.from_config_dict(configs.to_config_dict(config)) == config
    assert configs.from_config_dict(json.loads(json.dumps(configs.to_json_dict(config)))) == config


def test_the_variant_of_the_papers_figure_6():
    config = configs.from_config_dict(
        cifar10.get_config("depth=32,method=smh,target_size=46662,hashed=conv")
    )
    assert config.model.name == "cifar_resnet32"
    assert config.method.target_size == 46_662
    assert config.method.hashed == "conv"
    # He et al.: 0.1 at a batch of 128.
    assert config.optimizer.learning_rate * config.data.batch_size / 256 == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dept=32", "'dept' is unknown; did you mean depth"),
        ("depth=many", "depth='many' must be of type int"),
        ("depth", "'depth' has no value"),
        ("target_size=", "target_size='' must be of type int"),
    ],
)
def test_bad_arguments(text, message):
    with pytest.raises(ValueError, match=message):
        digits.get_config(text)


def test_arguments_keep_the_types_of_their_defaults():
    args = arguments.parse("a=2,b=0.5,c=x,d=true,e=7", a=1, b=1.0, c="", d=False, e=int)
    assert args.to_dict() == {"a": 2, "b": 0.5, "c": "x", "d": True, "e": 7}
    assert arguments.parse("", e=int).e is None
    with pytest.raises(ValueError, match="d='yes' must be of type bool"):
        arguments.parse("d=yes", d=False)


def changed(path, value):
    content = digits.get_config().to_dict()
    *parents, last = path.split(".")
    node = content
    for key in parents:
        node = node[key]
    node[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer.learning_rat", 0.1, "optimizer.learning_rat is unknown; did you mean learning"),
        ("optimizer.learning_rate", "fast", "optimizer.learning_rate='fast' must be of type float"),
        ("optimizer.learning_rate", -1.0, "optimizer.learning_rate=-1.0 must be at least 0"),
        ("optimizer.name", "sdg", "optimizer.name='sdg' must be one of sgd, momentum"),
        ("optimizer.schedule", "step", "optimizer.schedule='step' must be one of"),
        ("optimizer.schedule", "piecewise", "optimizer.decay_epochs"),
        ("optimizer.warmup_epochs", 5.0, "optimizer.warmup_epochs=5.0 must be 0 for schedule"),
        ("optimizer.weight_decay_on", "all", "must be one of variables, weights"),
        ("optimizer.label_smoothing", 1.0, "optimizer.label_smoothing=1.0 must be in"),
        ("optimizer.clip_norm", 0.0, "optimizer.clip_norm=0.0 must be above 0"),
        ("optimizer.schedule", "staircase", "optimizer.decay_every_epochs=0.0 must be above 0"),
        ("optimizer.rms_decay", 1.0, "optimizer.rms_decay=1.0 must be in"),
        ("optimizer.ema_decay", 1.0, "optimizer.ema_decay=1.0 must be in"),
        ("optimizer.accumulate_steps", 0, "optimizer.accumulate_steps=0 must be at least 1"),
        ("batch_norm_group_size", 0, "batch_norm_group_size=0 must be at least 1"),
        ("data.batch_size", 0, "data.batch_size=0 must be at least 1"),
        ("data.batch_size", True, "data.batch_size=True must be of type int"),
        ("data.augmentation", "flip", "data.augmentation='flip' must be one of none, crop"),
        ("data.preprocessing", "vgg", "data.preprocessing='vgg' must be one of plain, resnet"),
        ("data.image_dtype", "float16", "data.image_dtype='float16' must be one of float32"),
        ("data.randaugment_layers", 0, "data.randaugment_layers=0 must be at least 1"),
        ("data.preprocessing", "resnet", "data.augmentation='crop' goes with .*='plain'"),
        ("batch_norm", "global", "batch_norm='global' must be one of local, synced, grouped"),
        ("epochs", 0.0, "epochs=0.0 must be above 0"),
        ("model", 5, "model=5 must be a dict"),
    ],
)
def test_bad_fields(path, value, message):
    with pytest.raises(ValueError, match=message):
        configs.from_config_dict(changed(path, value))


def test_a_missing_field():
    content = digits.get_config().to_dict()
    del content["model"]["name"]
    with pytest.raises(ValueError, match=r"model\.name is missing"):
        configs.from_config_dict(content)


def test_differences_name_the_fields():
    one = configs.from_config_dict(digits.get_config())
    other = configs.from_config_dict(digits.get_config("depth=32,seed=1"))
    assert configs.differences(one, other) == {
        "model.name": ("cifar_resnet20", "cifar_resnet32"),
        "seed": (0, 1),
    }
    assert configs.differences(one, one) == {}


def test_fields_that_may_change_exist():
    config = configs.from_config_dict(digits.get_config())
    fields = flax.traverse_util.flatten_dict(configs.to_json_dict(config), sep=".")
    assert set(resuming._CHANGEABLE) <= set(fields)


def test_epochs_stay_where_weights_are_drawn_to_a_method():
    config = configs.from_config_dict(digits.get_config("method=dense"))
    optimizer = dataclasses.replace(config.optimizer, schedule="constant")
    config = dataclasses.replace(config, optimizer=optimizer)
    longer = dataclasses.replace(config, epochs=80.0)
    assert configs.changes_on_resume(config, longer) == {}
    pull = configs.PullConfig(towards=configs.MethodConfig("smh", target_size=9000))
    pulled = [dataclasses.replace(c, pull=pull) for c in (config, longer)]
    assert configs.changes_on_resume(*pulled) == {"epochs": (40.0, 80.0)}


@pytest.mark.parametrize("schedule", ["constant", "staircase", "cosine", "one_cycle"])
def test_epochs_may_change_where_no_rate_follows_from_them(schedule):
    config = configs.from_config_dict(digits.get_config())
    optimizer = dataclasses.replace(config.optimizer, schedule=schedule, decay_every_epochs=1.0)
    config = dataclasses.replace(config, optimizer=optimizer)
    longer = dataclasses.replace(config, epochs=80.0, log_every_steps=7)
    rates = [
        optim.learning_rate(c.optimizer, batch_size=128, steps_per_epoch=10, num_steps=n)(200)
        for c, n in ((config, 400), (longer, 800))
    ]
    changed = configs.changes_on_resume(config, longer)
    assert changed == ({} if rates[0] == rates[1] else {"epochs": (40.0, 80.0)})
    assert bool(changed) == (schedule in ("cosine", "one_cycle"))
