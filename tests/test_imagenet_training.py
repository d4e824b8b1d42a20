"""Training on a small ImageNet: the ordinary command, the ordinary configs, real files."""

import json

import pytest

from smh_jax.training import loop as train
from tests import imagenet_files
from tests.small import digits_config


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return imagenet_files.prepare(tmp_path_factory.mktemp("imagenet"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "width"),
    [
        ("resnet.py:variant=18,target_size=100000", 0.125),
        ("efficientnet.py:variant=b0,target_size=1000000", 0.5),
        ("mobilenet.py:variant=v3_small,target_size=1000000", 0.5),
    ],
)
def test_a_recipe_trains_by_the_ordinary_command(prepared, tmp_path, run_python, config, width):
    run_python(
        *(
            "-m",
            "smh_jax.main",
            f"--config=configs/imagenet_{config}",
            f"--workdir={tmp_path / 'run'}",
        ),
        f"--config.data.data_dir={prepared}",
        *("--config.data.image_size=32", "--config.data.batch_size=6", "--config.epochs=1"),
        *("--config.data.eval_batch_size=8", "--config.log_every_steps=1"),
        "--config.batch_norm=local",
        f"--config.model.options.width_multiplier={width}",
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == imagenet_files.NUM_TRAIN // 6
    assert result["test_examples"] == imagenet_files.NUM_VALIDATION
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert len(losses) == result["steps"]
    # Of 1000 classes, with a penalty: ln 1000 is 6.9.
    assert all(6.0 < loss < 10.0 for loss in losses)


@pytest.mark.slow
def test_a_corrupt_image_ends_a_run_that_resumes_when_told_to_skip_it(tmp_path, caplog):
    name = "n02123045_1"
    broken = dict(imagenet_files.train_files()["n02123045"])[f"{name}.JPEG"][:400]
    data_dir = imagenet_files.prepare(tmp_path, **{name: broken})
    changes = {
        "data__name": "imagenet2012",
        "data__eval_split": "validation",
        "data__preprocessing": "resnet",
        "data__augmentation": "none",
        "data__image_size": 16,
        "data__batch_size": 1,
        "method__name": "dense",
        "method__target_size": None,
        "method__options": {},
        "epochs": 1.0,
        "checkpoint_every_steps": 4,
    }
    with pytest.raises(ValueError, match=rf"image {name}\.JPEG of imagenet2012's train cannot be"):
        train.train_and_evaluate(digits_config(data_dir, **changes), tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    skipping = digits_config(data_dir, **changes, data__skip_corrupt=True)
    result = train.train_and_evaluate(skipping, tmp_path / "run")
    assert result["steps"] == imagenet_files.NUM_TRAIN
    assert result["test_examples"] == imagenet_files.NUM_VALIDATION
    assert f"{name}.JPEG" in caplog.text
