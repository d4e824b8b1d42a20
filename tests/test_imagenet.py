"""ImageNet from tar files to batches: real files, every value a function of seed and step."""

import dataclasses
import functools
import io
import itertools
import os
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from smh_jax import data
from smh_jax.config import buckets
from smh_jax.data import catalogue, order, preparation, records
from tests import imagenet_files
from tests.imagenet_files import NUM_TRAIN, NUM_VALIDATION


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return imagenet_files.prepare(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module")
def with_corrupt(tmp_path_factory):
    """A data_dir with three files that end in the middle, and a PNG in the validation split."""
    train, validation = imagenet_files.train_files(), dict(imagenet_files.validation_files())
    png = io.BytesIO()
    Image.new("RGB", (60, 60)).save(png, "PNG")
    changes = {name: dict(train[name[:9]])[f"{name}.JPEG"][:400] for name in CORRUPT_TRAIN}
    changes[CORRUPT_VALIDATION[0]] = png.getvalue()
    name = CORRUPT_VALIDATION[1]
    changes[name] = validation[f"{name}.JPEG"][:400]
    return imagenet_files.prepare(tmp_path_factory.mktemp("corrupt"), **changes)


CORRUPT_TRAIN = ("n01440764_3", "n02123045_1")
CORRUPT_VALIDATION = ("ILSVRC2012_val_00000004", "ILSVRC2012_val_00000007")


def load(data_dir, split="train", preprocessing="resnet", size=32):
    info = data.describe("imagenet2012", data_dir, size, preprocessing)
    return info, data.load(info, split, data_dir)


def train(data_dir, steps, first_step=0, preprocessing="resnet", **changes):
    info, split = load(data_dir, preprocessing=preprocessing)
    options = {"batch_size": 8, "augmentation": "none", "seed": 0} | changes
    return list(
        data.train_batches(
            split, info.normalization, first_step=first_step, last_step=steps, **options
        )
    )


def evaluate(data_dir, preprocessing="resnet", **changes):
    info, split = load(data_dir, "validation", preprocessing)
    return list(data.eval_batches(split, info.normalization, batch_size=8, **changes))


def names_of_rows(split):
    return [
        records.parse(split.records[row])["file_name"].numpy().decode()
        for row in range(split.num_examples)
    ]


def test_the_builder_prepares_every_image_of_the_tars(prepared):
    info, split = load(prepared)
    found = {}
    for row in range(split.num_examples):
        features = records.parse(split.records[row])
        name = features["file_name"].numpy().decode()
        found[name] = features["image"].numpy()
        assert info.class_names[features["label"]] == name[:9]
    expected = {k: v for files in imagenet_files.train_files().values() for k, v in files}
    assert found.keys() == expected.keys()
    assert len(found) == NUM_TRAIN == split.num_examples
    for name, content in expected.items():
        if name == imagenet_files.CMYK:
            assert Image.open(io.BytesIO(content)).mode == "CMYK"
            assert Image.open(io.BytesIO(found[name])).mode == "RGB"
        else:
            assert found[name] == content
    assert Image.open(io.BytesIO(expected[imagenet_files.GREY])).mode == "L"


def test_each_epoch_sees_every_example_once_in_another_order(prepared):
    # 18 examples in batches of 6 and of 4, which reach into the next epoch.
    for batch_size, steps in ((6, 9), (4, 14)):
        batches = train(prepared, steps, batch_size=batch_size, preprocessing="plain")
        images = np.concatenate([batch["image"] for batch in batches])[: 3 * NUM_TRAIN]
        epochs = [[image.tobytes() for image in epoch] for epoch in np.split(images, 3)]
        assert len(set(epochs[0])) == NUM_TRAIN
        for epoch, following in itertools.pairwise(epochs):
            assert sorted(epoch) == sorted(following)
            assert epoch != following


@pytest.mark.slow
def test_a_step_depends_neither_on_where_the_run_began_nor_on_the_number_of_hosts(prepared):
    augmentation = data.Augmentation("randaugment", 3, 7)
    whole = train(prepared, 4, augmentation=augmentation)
    for batch, following in itertools.pairwise(whole):
        assert np.any(batch["image"] != following["image"])
    resumed = train(prepared, 4, first_step=2, augmentation=augmentation)
    assert len(resumed) == 2
    hosts = [train(prepared, 4, augmentation=augmentation, host=h, num_hosts=2) for h in range(2)]
    for key in ("image", "label"):
        for batch, same_step in zip(whole[2:], resumed, strict=True):
            np.testing.assert_array_equal(batch[key], same_step[key])
        for step, batch in enumerate(whole):
            joined = np.concatenate([host[step][key] for host in hosts])
            np.testing.assert_array_equal(joined, batch[key])


def test_an_example_is_another_crop_in_each_epoch(prepared):
    _, split = load(prepared)
    batches = train(prepared, 3, batch_size=NUM_TRAIN)
    crops = [image.tobytes() for batch in batches for image in batch["image"]]
    assert len(set(crops)) == len(crops) == 3 * split.num_examples
    (other_seed,) = train(prepared, 1, batch_size=NUM_TRAIN, seed=1)
    assert not set(crops) & {image.tobytes() for image in other_seed["image"]}


def test_images_come_in_bfloat16_on_demand(prepared):
    (full,), (half,) = train(prepared, 1), train(prepared, 1, dtype="bfloat16")
    assert half["image"].dtype == jnp.bfloat16
    assert full["image"].dtype == np.float32
    np.testing.assert_array_equal(half["image"], full["image"].astype(jnp.bfloat16))
    half = evaluate(prepared, dtype="bfloat16")[0]["image"]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, evaluate(prepared)[0]["image"].astype(jnp.bfloat16))


@pytest.mark.parametrize("num_hosts", [1, 2])
def test_evaluation_covers_every_example_once(prepared, num_hosts):
    _, split = load(prepared, "validation")
    expected = sorted(
        int(records.parse(split.records[row])["label"]) for row in range(split.num_examples)
    )
    hosts = [evaluate(prepared, host=host, num_hosts=num_hosts) for host in range(num_hosts)]
    batches = list(itertools.chain(*hosts))
    labels = np.concatenate([batch["label"][batch["mask"] == 1] for batch in batches])
    assert sorted(labels) == expected
    assert len(expected) == NUM_VALIDATION
    assert {len(batch["label"]) for batch in batches} == {8 // num_hosts}
    assert {len(host) for host in hosts} == {2}
    images = np.concatenate([b["image"][b["mask"] == 1] for b in batches])
    assert len({image.tobytes() for image in images}) == NUM_VALIDATION
    assert np.isfinite(np.concatenate([b["image"] for b in batches])).all()


def test_a_held_out_part_of_the_training_split(prepared, monkeypatch):
    splits = {"minival": "train[:5]", "minitrain": "train[5:]"}
    monkeypatch.setitem(catalogue._SPLITS, "imagenet2012", splits)
    (_, minival), (_, minitrain), (_, whole) = (
        load(prepared, split) for split in ("minival", "minitrain", "train")
    )
    assert minival.num_examples == 5
    assert names_of_rows(minival) + names_of_rows(minitrain) == names_of_rows(whole)


def test_a_corrupt_image_is_named(with_corrupt):
    with pytest.raises(ValueError, match=r"image (n01440764_3|n02123045_1)\.JPEG of imagenet2012's "
                       r"train cannot be decoded: .*data\.skip_corrupt=True"):  # fmt: skip
        train(with_corrupt, 3)
    with pytest.raises(ValueError, match=r"image ILSVRC2012_val_0000000[47]\.JPEG"):
        evaluate(with_corrupt)


@pytest.mark.slow
def test_a_corrupt_image_is_skipped_on_demand(with_corrupt, caplog):
    options = {"skip_corrupt": True, "batch_size": 6}
    whole = train(with_corrupt, 6, **options)
    assert "n01440764_3.JPEG" in caplog.text
    assert "n02123045_1.JPEG" in caplog.text
    assert all(len(batch["label"]) == 6 for batch in whole)
    # The others are those of data without any fault; in the place of each of the two is the next.
    _, split = load(with_corrupt)
    names = names_of_rows(split)
    rows = order.shuffled_rows(tf.range(36, dtype=tf.int64), NUM_TRAIN, seed=0).numpy()
    expected = []
    for row in rows:
        while names[row].removesuffix(".JPEG") in CORRUPT_TRAIN:
            row = (row + 1) % NUM_TRAIN
        expected.append(int(records.parse(split.records[row])["label"]))
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in whole]), expected)
    # What a step sees is the same after resuming in the middle, and on two hosts.
    resumed = train(with_corrupt, 6, first_step=3, **options)
    hosts = [train(with_corrupt, 6, host=host, num_hosts=2, **options) for host in range(2)]
    for batch, same_step in zip(whole[3:], resumed, strict=True):
        np.testing.assert_array_equal(batch["image"], same_step["image"])
    for step, batch in enumerate(whole):
        joined = np.concatenate([host[step]["image"] for host in hosts])
        np.testing.assert_array_equal(joined, batch["image"])


def test_evaluation_does_not_count_what_it_skips(with_corrupt, caplog):
    batches = evaluate(with_corrupt, skip_corrupt=True)
    assert sum(batch["mask"].sum() for batch in batches) == NUM_VALIDATION - 2
    for name in CORRUPT_VALIDATION:
        assert f"{name}.JPEG" in caplog.text


def test_data_that_is_not_prepared(tmp_path):
    with pytest.raises(ValueError, match=r"is not prepared; `python -m scripts\.prepare_imagenet"):
        load(str(tmp_path))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The data_dir of a bucket that `tmp_path` stands for."""
    url = "gs://bucket/"
    monkeypatch.setattr(buckets, "_HOSTS", {})

    def local(path):
        # A path that has lost a slash is not in the bucket.
        return os.fspath(path).replace(url, f"{tmp_path}/")

    def on_local_path(function, path, *arguments, **options):
        return function(local(path), *arguments, **options)

    # ArrayRecord opens files in C++; etils and tensorflow-datasets by TensorFlow.
    names = ("GFile", "exists", "isdir", "listdir", "stat")
    for module, name in (
        (array_record_module, "ArrayRecordReader"),
        *((tf.io.gfile, name) for name in names),
    ):
        function = functools.partial(on_local_path, getattr(module, name))
        monkeypatch.setattr(module, name, function)
    return f"{url}data"


def test_data_in_a_bucket(prepared, bucket, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    for batch, same_step in zip(train(bucket, 2), train(prepared, 2), strict=True):
        np.testing.assert_array_equal(batch["image"], same_step["image"])
    (file,) = (tmp_path / "data").rglob("*train.array_record*")
    file.unlink()
    with pytest.raises(ValueError, match=rf"in gs://bucket/data.* {file.name} \(missing\)"):
        load(bucket)
    tars = "gs://bucket/tars"
    with pytest.raises(ValueError, match=f"--manual_dir={tars} has no file ILSVRC2012_img_train"):
        preparation.prepare_imagenet(tars, "gs://bucket/new")
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "ILSVRC2012_img_train.tar").write_bytes(b"0" * 2000)
    with pytest.raises(ValueError, match=f"{tars}/ILSVRC2012_img_train.tar has 2,000 bytes"):
        preparation.prepare_imagenet(tars, "gs://bucket/new")


def copy_of(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    (file,) = (tmp_path / "copy").rglob("*train.array_record*")
    return str(tmp_path / "copy"), file


def test_half_prepared_data(prepared, tmp_path):
    data_dir, file = copy_of(prepared, tmp_path)
    content = file.read_bytes()
    for size in (1000, len(content) // 2, len(content) - 10):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"1 of the 1 files .* the first is {file.name}"):
            load(data_dir)
    file.unlink()
    with pytest.raises(ValueError, match=rf"{file.name} \(missing\); copy or prepare it again"):
        load(data_dir)
    load(data_dir, "validation")


def test_a_damaged_file(prepared, tmp_path):
    data_dir, file = copy_of(prepared, tmp_path)
    content = bytearray(file.read_bytes())
    for at in range(len(content) // 8, len(content) // 2, 1000):
        content[at] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"example \d+ of imagenet2012's train .*{file.name}"):
        train(data_dir, 3, skip_corrupt=True)


def test_an_example_that_cannot_be_read_is_named_in_whatever_group_it_is(prepared, monkeypatch):
    info, split = load(prepared)
    order_of = order.shuffled_rows(tf.range(40, dtype=tf.int64), split.num_examples, 0).numpy()

    class Records:
        def __len__(self):
            return split.num_examples

        def __getitem__(self, row):
            # Of the second step, and read together with the end of the first.
            if row == order_of[9]:
                raise RuntimeError("a bad sector")
            return split.records[row]

    broken = dataclasses.replace(split, records=Records())
    options = {"batch_size": 8, "augmentation": "none", "seed": 0, "first_step": 0, "last_step": 3}
    with pytest.raises(ValueError, match=rf"example {order_of[9]} of .*: a bad sector"):
        list(data.train_batches(broken, info.normalization, **options))


def test_another_file_format(tmp_path):
    tars = tmp_path / "tars"
    imagenet_files.prepare(tmp_path)
    data_dir = str(tmp_path / "tfrecord")
    tfds.builder("imagenet2012", data_dir=data_dir).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(tars))
    )
    with pytest.raises(ValueError, match=r"prepared as tfrecord.*scripts\.prepare_imagenet"):
        load(data_dir)


def test_bad_splits_and_settings(prepared):
    with pytest.raises(ValueError, match="data split 'test' is not a part of imagenet2012"):
        load(prepared, "test")
    with pytest.raises(ValueError, match=r"data split 'train\[10000:\]' is not a part"):
        load(prepared, "minitrain")
    with pytest.raises(ValueError, match=r"'randaugment' is for imagenet2012; .*cifar"):
        data.check_augmentation(data.describe("cifar10"), "randaugment")


def test_tars_that_are_missing_or_not_whole(tmp_path):
    with pytest.raises(ValueError, match=r"has no file ILSVRC2012_img_train\.tar"):
        preparation.prepare_imagenet(tmp_path, str(tmp_path / "data"))
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"0" * 2000)
    with pytest.raises(ValueError, match=r"2,000 bytes, the official file 147,897,477,120"):
        preparation.prepare_imagenet(tmp_path, str(tmp_path / "data"))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"could not be prepared .* ReadError"):
        preparation.prepare_imagenet(tmp_path, str(tmp_path / "data"), subset=True)
    assert not list(pathlib.Path(tmp_path / "data").rglob("dataset_info.json"))
