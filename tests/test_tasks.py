"""Tasks: one interface, next-token prediction from text to file, and a third task in one file."""

import dataclasses
import functools
import importlib.util
import json
import math
import sys
import types
from pydoc_data.topics import topics

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import tensorflow_datasets as tfds
from etils import epath

import smh_jax
from configs import text as text_config
from scripts import prepare_text
from smh_jax import Manifest, data, models
from smh_jax.data import characters
from smh_jax.shipping import from_run, on_the_fly, stablehlo
from smh_jax.shipping import onnx as onnx_export
from smh_jax.training import tasks
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.run import Run
from tests import reference_transformers
from tests.numerics import as_float64
from tests.small import changed, digits_config
from tests.test_train import final_state
from tests.test_transformers import error, random_params

LENGTH = 16
PARAGRAPH = "def double(number):\n    return 2 * number\n\n"


class TinyText(tfds.core.GeneratorBasedBuilder):
    """The same few lines over and over."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": [(i, {"text": PARAGRAPH}) for i in range(24)],
            "test": [(i, {"text": PARAGRAPH[:-3]}) for i in range(5)],
            "foreign": [(0, {"text": PARAGRAPH + "naïve"})],
        }

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def text_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    tfds.builder("tiny_text", data_dir=str(folder)).download_and_prepare()
    return str(folder)


def text_run_config(data_dir, **changes):
    """A run of a few steps of a GPT-2 of one block."""
    content = text_config.get_config("depth=1,target_size=3500").to_dict()
    content["model"]["options"] |= {"num_heads": 2, "width_multiplier": 0.125, "max_length": LENGTH}
    content["data"] |= {
        "name": "tiny_text",
        "data_dir": data_dir,
        "context_length": LENGTH,
        "batch_size": 16,
        "eval_batch_size": 4,
    }
    content["optimizer"] |= {"learning_rate": 0.2, "schedule": "constant", "warmup_epochs": 0.0}
    content |= {"epochs": 8.0, "log_every_steps": 4, "checkpoint_every_steps": 8}
    return changed(content, changes)


@pytest.fixture(scope="module")
def trained(text_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    config = text_run_config(text_dir)
    return config, workdir, train_and_evaluate(config, workdir)


@pytest.fixture(scope="module")
def shipped(trained):
    return from_run.read_artifact(trained[1])


@pytest.fixture(scope="module")
def some_tokens():
    return np.random.default_rng(0).integers(97, size=(3, LENGTH)).astype(np.int32)


def test_a_language_model_learns_and_says_bits_per_character(trained):
    config, workdir, result = trained
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    # Five texts with a line between, of which all but the first character are told.
    assert result["test_examples"] == 5 * len(PARAGRAPH[:-3]) + 4 - 1
    assert result["test_bits_per_character"] == pytest.approx(result["test_loss"] / math.log(2))
    assert result["test_bits_per_character"] < math.log2(97)
    assert rows[-1]["test_bits_per_character"] == result["test_bits_per_character"]
    assert result["task"] == "next_token"
    said = tasks.of_name("next_token").headline(result)
    assert f"bits per character of {result['test_examples']:,}" in said
    assert config.method.target_size >= result["num_variables"]


@pytest.mark.slow
def test_a_language_model_resumes_bit_for_bit(trained, text_dir, tmp_path):
    config, workdir, result = trained
    half = dataclasses.replace(config, epochs=4.0)
    train_and_evaluate(half, tmp_path)
    resumed = train_and_evaluate(config, tmp_path)
    assert resumed["test_loss"] == result["test_loss"]
    one, other = final_state(tmp_path), final_state(workdir)
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)


def test_the_evaluation_counts_each_character_once(text_dir):
    info = data.text.describe("tiny_text", text_dir, LENGTH)
    split = data.text.load(info, "test", text_dir)
    batches = list(data.text.eval_batches(split, batch_size=4))
    counted = np.concatenate([b["next"][b["mask"] > 0] for b in batches])
    np.testing.assert_array_equal(counted, split.tokens[1:])
    assert characters.decode(split.tokens, info.class_names) == "\n".join([PARAGRAPH[:-3]] * 5)
    halves = [
        list(data.text.eval_batches(split, batch_size=4, host=host, num_hosts=2)) for host in (0, 1)
    ]
    for whole, first, second in zip(batches, *halves, strict=True):
        for key, value in whole.items():
            np.testing.assert_array_equal(value, np.concatenate([first[key], second[key]]))


def test_training_windows_follow_from_seed_and_step(text_dir):
    info = data.text.describe("tiny_text", text_dir, LENGTH)
    split = data.text.load(info, "train", text_dir)
    which = {"batch_size": 8, "first_step": 0, "last_step": 30}
    batches = list(data.text.train_batches(split, seed=1, **which))
    later = next(data.text.train_batches(split, seed=1, batch_size=8, first_step=7, last_step=8))
    np.testing.assert_array_equal(batches[7]["tokens"], later["tokens"])
    other = next(data.text.train_batches(split, seed=2, **which))
    assert not np.array_equal(batches[0]["tokens"], other["tokens"])
    for batch in batches:
        np.testing.assert_array_equal(batch["tokens"][:, 1:], batch["next"][:, :-1])
    # In an epoch every window comes once, and in the next they begin elsewhere.
    rows = np.concatenate([batch["tokens"] for batch in batches])
    epochs = [rows[i * split.num_examples : (i + 1) * split.num_examples] for i in (0, 1)]
    begins = [{row.tobytes() for row in epoch} for epoch in epochs]
    assert begins[0] != begins[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__context_length": 600}, r"context_length=600 is too long for split 'train'.*most"),
        ({"data__train_split": "foreign", "data__context_length": 8}, "1 unknown characters.*'ï'"),
        ({"data__context_length": 0}, "data.context_length=0 must be at least 1"),
        ({"data__context_length": 32}, "max_length=16 is below the 32 tokens"),
        ({"data__name": "mnist"}, "data.name='mnist' is not a dataset of texts"),
        ({"data__name": "python_source"}, "'python_source' is unknown; did you mean python_source"),
        ({"model__name": "resnet18", "model__options": {}}, "takes images, and task='next_token'"),
        ({"task": "next_word"}, "task='next_word' is unknown; did you mean next_token"),
    ],
)
def test_mistakes_are_told_before_training(changes, message, text_dir, tmp_path):
    length = changes.get("data__context_length", 0)
    if length == 600:
        changes = changes | {"model__options__max_length": 600, "method__hashed": "all"}
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(text_run_config(text_dir, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_image_model_of_tokens_is_refused(digits_dir):
    config = digits_config(digits_dir, model__name="gpt2_small", model__options={})
    with pytest.raises(ValueError, match="takes tokens, and task='image_classification'"):
        Run.from_config(config)


@pytest.mark.slow
def test_a_file_of_a_language_model(trained, shipped, some_tokens, text_dir, tmp_path):
    path = tmp_path / "text.smh"
    smh_jax.save(path, shipped)
    loaded = smh_jax.load(path)
    np.testing.assert_array_equal(loaded.logits(some_tokens), shipped.logits(some_tokens))
    assert loaded.preprocessing == characters.TokenInput(LENGTH, 97)
    again = from_run.with_accuracy(loaded, from_run.dataset_of(loaded, None)).accuracy
    assert again["loss"] == pytest.approx(trained[2]["test_loss"], rel=1e-5)
    assert again["examples"] == trained[2]["test_examples"]
    generated = jax.jit(on_the_fly.predict(loaded.module, loaded.method))(
        loaded.variables, {}, some_tokens
    )
    np.testing.assert_allclose(generated, loaded.logits(some_tokens), rtol=1e-4, atol=1e-4)
    probabilities = loaded.predict(some_tokens)
    np.testing.assert_allclose(probabilities.sum(-1), np.ones((3, LENGTH)), rtol=1e-5)
    for wrong in (some_tokens[:, :3], some_tokens + 90, some_tokens.astype(float)):
        with pytest.raises(ValueError, match="must be"):
            loaded.predict(wrong)


@pytest.mark.parametrize(
    ("precision", "form"),
    [("float32", "on_the_fly"), ("float32", "unpacked"), ("int8", "on_the_fly")],
)
def test_onnxruntime_computes_a_language_model(precision, form, shipped, some_tokens):
    rounded = shipped.at(precision)
    session = onnxruntime.InferenceSession(onnx_export.export(rounded, form))
    expected = np.asarray(rounded.logits(some_tokens))
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    for count in (3, 1):
        (logits,) = session.run(["logits"], {"tokens": some_tokens[:count]})
        np.testing.assert_allclose(logits, expected[:count], rtol=1e-4, atol=1e-4)


def test_stablehlo_computes_a_language_model_of_any_batch(shipped, some_tokens):
    program = jax.export.deserialize(bytearray(stablehlo.export(shipped)))
    expected = shipped.logits(some_tokens)
    for count in (3, 1):
        found = program.call(some_tokens[:count])
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-4)


def test_prompts_are_continued(shipped):
    def continued(*prompts, **changes):
        options = {"length": 30, "temperature": 1.0, "seed": 0, "top": 1} | changes
        return list(shipped.task.predict(shipped, prompts, options))

    (drawn,) = continued("def ")
    assert drawn.startswith("def ")
    assert len(drawn) == 34
    assert continued("def ") == [drawn]
    assert continued("def ", seed=1) != [drawn]
    likeliest = continued("def ", temperature=0.0)
    assert likeliest == continued("def ", temperature=0.0, seed=1)
    # What does not fit is forgotten, and no more than that.
    prompt = "x" * 5 + PARAGRAPH
    whole, last = continued(prompt, prompt[-LENGTH:], temperature=0.0)
    assert whole[len(prompt) :] == last[LENGTH:]
    for bad, message in (("naïve", "unknown characters"), ("", "at least one character")):
        with pytest.raises(ValueError, match=message):
            continued(bad)


def test_characters_are_encoded_and_decoded():
    tokens = characters.encode(PARAGRAPH, characters.ASCII)
    assert characters.decode(tokens, characters.ASCII) == PARAGRAPH
    assert sorted(set(tokens.tolist()))[-1] < 97
    with pytest.raises(ValueError, match=r"the text has 2 unknown characters.*'é' at 1;"):
        characters.encode("aéaé", characters.ASCII)


# Radford et al. 2019, table 2; the counts are those of the published weights.
LANGUAGE = {
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
}


@pytest.mark.parametrize(
    "name",
    [
        "gpt2_small",
        *(pytest.param(n, marks=pytest.mark.slow) for n in LANGUAGE if n != "gpt2_small"),
    ],
)
def test_counts_of_language_models(name):
    model = models.create(name, num_classes=50_257)
    example = models.published_input(name)
    assert example.shape == (1, 1024)
    kwargs = {"train": False}
    manifest = Manifest.from_model(model, example, measure=False, example_kwargs=kwargs)
    assert manifest.num_weights == LANGUAGE[name]


@pytest.mark.parametrize("deviation", [0.02, 0.06])
def test_initial_values_of_language(deviation):
    options = {"num_heads": 3, "depth": 2, "width_multiplier": 0.125, "max_length": 12}
    if deviation != 0.02:
        options["initial_deviation"] = deviation
    model = models.create("gpt2_small", num_classes=19, **options)
    example = jax.ShapeDtypeStruct((1, 9), jnp.int32)
    manifest = Manifest.from_model(model, example, example_kwargs={"train": False})
    initial = {tensor.name: tensor.initial.stddev for tensor in manifest.tensors}
    found = {
        name: initial[name] / deviation
        for name in ("embedding", "positions", "block1/expand/kernel", "block2/project/kernel")
    }
    # Of the two branches of two blocks that are added to the stream.
    assert list(found.values()) == pytest.approx([1, 0.5, 1, 1 / math.sqrt(4)], rel=0.05)
    with pytest.raises(ValueError, match=r"initial_deviation=0\.0 must be above 0"):
        jax.eval_shape(
            functools.partial(model.clone(initial_deviation=0.0).init, train=False),
            *(jax.random.key(0), jnp.zeros((1, 9), jnp.int32)),
        )


def language_disagreement(model, tokens, params):
    expected = reference_transformers.language(as_float64(params), tokens, num_heads=3)
    apply = jax.jit(functools.partial(model.apply, train=False))
    return error(np.asarray(apply({"params": params}, tokens)), expected)


def params_like(model, tokens, **how):
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), tokens)["params"]
    return random_params(shapes, **how)


def test_logits_of_language_and_that_other_settings_are_noticed():
    options = {"num_heads": 3, "depth": 2, "width_multiplier": 0.125, "max_length": 12}
    model = models.create("gpt2_small", num_classes=19, **options)
    tokens = np.random.default_rng(0).integers(19, size=(2, 9)).astype(np.int32)
    params = params_like(model, tokens)
    assert language_disagreement(model, tokens, params) < 1e-4
    assert language_disagreement(model.clone(layer_norm_epsilon=0.1), tokens, params) > 1e-3
    heads = model.clone(num_heads=6, width_multiplier=0.0625)
    assert language_disagreement(heads, tokens, params) > 1e-3
    # What comes later is not seen.
    changed = tokens.copy()
    changed[:, 6:] = 0
    apply = jax.jit(functools.partial(model.apply, train=False))
    one, other = (np.asarray(apply({"params": params}, t)) for t in (tokens, changed))
    np.testing.assert_array_equal(one[:, :6], other[:, :6])
    assert not np.allclose(one[:, 6:], other[:, 6:], atol=0.1)


@pytest.mark.slow
def test_logits_of_gpt2_small_at_full_size():
    model = models.create("gpt2_small", num_classes=50_257)
    tokens = np.random.default_rng(0).integers(50_257, size=(2, 64)).astype(np.int32)
    params = params_like(model, tokens, stddev=0.03)
    expected = reference_transformers.language(as_float64(params), tokens, num_heads=12)
    found = jax.jit(functools.partial(model.apply, train=False))({"params": params}, tokens)
    assert error(np.asarray(found), expected) < 1e-4


def test_label_smoothing_and_loss_by_hand():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    following = np.array([[0, 4, 1], [2, 2, 3]])
    task = tasks.of_name("next_token")
    measured = task.measure(jnp.asarray(logits), {"next": jnp.asarray(following)}, 0.1)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for place in np.ndindex(2, 3):
        target = 0.9 * np.eye(5)[following[place]] + 0.1 / 5
        assert float(measured["loss"][place]) == pytest.approx(-target @ logs[place], rel=1e-5)
        assert measured["correct"][place] == (logits[place].argmax() == following[place])


def test_tasks_are_known_by_what_runs_and_files_say():
    assert {"image_classification", "next_token"} <= set(tasks.names())
    for name in tasks.names():
        assert tasks.of_name(name).name == name
    before = types.SimpleNamespace(test_accuracy=0.5)
    assert tasks.DEFAULT.headline(vars(before) | {"test_examples": 2_000}) == (
        "test accuracy 50.00% of 2,000 images"
    )


@pytest.fixture(scope="module")
def token_folder(tmp_path_factory):
    """Texts of words, each of which is a token."""
    folder = tmp_path_factory.mktemp("tokens") / "words"
    words = PARAGRAPH.split()
    texts = [PARAGRAPH] * 40
    counts = prepare_text.write(
        texts,
        lambda batch: [[words.index(word) for word in text.split()] for text in batch],
        end=len(words),
        num_tokens=len(words) + 1,
        test_every=8,
        folder=epath.Path(folder),
        encoding="words",
    )
    assert counts == {"train": 35 * (len(words) + 1), "test": 5 * (len(words) + 1)}
    return folder


@pytest.mark.slow
def test_a_folder_of_tokens_trains(token_folder, tmp_path, monkeypatch):
    name = f"tokens:{token_folder}"
    info = data.text.describe(name, None, LENGTH)
    train, half = (data.text.load(info, split, None) for split in ("train", "train[50%:]"))
    np.testing.assert_array_equal(half.tokens, train.tokens[len(train.tokens) // 2 :])
    words = PARAGRAPH.split()
    assert train.tokens[: len(words) + 1].tolist() == [*range(len(words) + 1)]
    config = text_run_config(None, data__name=name, method__target_size=2000, epochs=1.0)
    result = train_and_evaluate(config, tmp_path / "run")
    assert result["test_examples"] == len(data.text.load(info, "test", None).tokens) - 1
    assert result["test_bits_per_token"] == pytest.approx(result["test_loss"] / math.log(2))
    said = tasks.of_name("next_token").headline(result)
    assert "bits per token" in said
    artifact = from_run.read_artifact(tmp_path / "run")
    options = {"length": 1, "temperature": 0.0, "seed": 0}
    unknown = dataclasses.replace(artifact.preprocessing, encoding=None)
    with pytest.raises(ValueError, match="does not say which texts its tokens are"):
        list(
            artifact.task.predict(
                dataclasses.replace(artifact, preprocessing=unknown), ["def"], options
            )
        )
    # With words for what tiktoken would download.
    smh_jax.save(tmp_path / "words.smh", artifact)
    loaded = smh_jax.load(tmp_path / "words.smh")
    assert loaded.preprocessing.encoding == "words"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tokens are words's, of tiktoken: pip install tiktoken"):
        list(loaded.task.predict(loaded, ["def"], options))
    coder = types.SimpleNamespace(
        encode_ordinary=lambda text: [words.index(word) for word in text.split()],
        decode=lambda tokens: "".join(f" {[*words, 'END'][token]}" for token in tokens),
    )
    known = {"words": coder}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(
        sys.modules, "tiktoken", types.SimpleNamespace(get_encoding=known.__getitem__)
    )
    prompt = " ".join(words[:3])
    (text,) = loaded.task.predict(loaded, [prompt], options | {"length": 5})
    assert text.startswith(prompt)
    assert len(text.split()) == 3 + 5
    padded = np.zeros((1, LENGTH), np.int32)
    padded[0, :3] = [0, 1, 2]
    likeliest = int(np.argmax(loaded.logits(padded)[0, 2]))
    assert text.split()[3] == [*words, "END"][likeliest]


def test_folders_of_tokens_that_are_none(token_folder, tmp_path):
    with pytest.raises(ValueError, match=r"vocabulary.json cannot be read.*prepare_text --help"):
        data.text.describe(f"tokens:{tmp_path}", None, LENGTH)
    (tmp_path / "vocabulary.json").write_text('{"num_tokens": 3, "dtype": "float32"}')
    with pytest.raises(ValueError, match="a dtype of uint8, uint16, uint32"):
        data.text.describe(f"tokens:{tmp_path}", None, LENGTH)
    with pytest.raises(ValueError, match="exists: choose a new folder"):
        prepare_text.write([], list, end=0, num_tokens=1, test_every=2, folder=token_folder)
    info = data.text.describe(f"tokens:{token_folder}", None, LENGTH)
    with pytest.raises(ValueError, match="data split 'dev' is not one part of"):
        data.text.load(info, "dev", None)
    split = dataclasses.replace(data.text.load(info, "test", None), num_tokens=2)
    with pytest.raises(ValueError, match=r"the data have token \d+ at .* must be below 2"):
        list(data.text.eval_batches(split, batch_size=2))


@pytest.mark.slow
def test_python_sources_are_whole_files_of_known_characters(tmp_path):
    info = data.text.describe("python_sources", str(tmp_path), 256)
    train, test = (data.text.load(info, split, str(tmp_path)) for split in ("train", "test"))
    assert len(train.tokens) > 5 * len(test.tokens) > 100_000
    text = characters.decode(test.tokens[:20_000], info.class_names)
    assert "def " in text


def test_pythons_help_is_of_the_same_characters(tmp_path):
    """So that a model of the sources can be adapted to it."""
    info = data.text.describe("python_help", str(tmp_path), 256)
    assert info.class_names == characters.ASCII
    train, test = (data.text.load(info, split, str(tmp_path)) for split in ("train", "test"))
    assert len(train.tokens) > 4 * len(test.tokens) > 40_000
    texts = [characters.decode(split.tokens, info.class_names) for split in (train, test)]
    assert all('"' in text and "The " in text for text in texts)
    # The section on `if` is a part of another topic.
    assert topics["if"].strip() not in texts[0]
    assert topics["if"].strip().split("\n", 2)[-1] in texts[0]
    lines = [{line for line in text.splitlines() if len(line) > 40} for text in texts]
    assert not lines[0] & lines[1]
