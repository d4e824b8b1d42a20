"""Files that are damaged or made to harm: a clear error, and nothing large is allocated."""

import base64
import copy
import hashlib
import json
import struct
import tracemalloc
import zlib

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import safetensors.numpy
import zstandard

import smh_jax
from smh_jax.shipping import artifact
from smh_jax.shipping.artifact import container, entropy_coder, file
from tests import artifacts

LIMIT = 64 * 2**20


@pytest.fixture(scope="module")
def data():
    return artifact.encode(artifacts.make())


@pytest.fixture(scope="module")
def opened(data):
    """The tensors and the metadata, to be written anew with a digest that fits."""
    tensors, metadata = container.read(data)
    return tensors, {k: v for k, v in metadata.items() if k not in ("digest", "format_version")}


@pytest.fixture
def refuses(tmp_path):
    """Whether loading bytes is refused with a message, in little memory."""

    def check(content: bytes, match: str) -> None:
        path = tmp_path / "model.smh"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=match) as refused:
                smh_jax.load(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < LIMIT + 4 * len(content)
        assert str(path) in str(refused.value)
        assert len(str(refused.value)) < 1000

    return check


def test_the_file_is_sound_before_it_is_damaged(data, opened):
    assert file.decode(data).class_names
    tensors, metadata = opened
    assert file.decode(container.write(tensors, metadata, compress=False)).class_names


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.05, 0.2, 0.5, 0.9, 0.999])
def test_truncated_files(data, share, refuses):
    refuses(data[: int(share * len(data))], "cut off|not JSON")


def test_files_with_more_at_the_end(data, refuses):
    refuses(data + b"\0", "cut off or damaged")


def test_every_flipped_bit_is_noticed(data):
    random = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    bits = [*range(64), *random.integers(64, 8 * header, 200)]
    bits += list(random.integers(8 * header, 8 * len(data), 100))
    for bit in map(int, bits):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"^its? "):
            container.read(bytes(damaged))


@hypothesis.given(st.binary(max_size=300))
@hypothesis.settings(max_examples=300)
def test_any_bytes_are_refused(content):
    for prefix in (b"", b"\x28\xb5\x2f\xfd", struct.pack("<Q", len(content))):
        with pytest.raises(ValueError, match=r"^its? "):
            file.decode(prefix + content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@hypothesis.given(
    st.sampled_from(["model", "method", "precision", "preprocessing", "accuracy", "provenance",
                     "manifest", "leaves", "class_names"]),
    JSON,
)  # fmt: skip
@hypothesis.settings(
    max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@pytest.mark.slow
def test_any_metadata_are_refused_or_harmless(opened, key, value):
    tensors, metadata = opened
    content = container.write(tensors, {**metadata, key: value}, compress=False)
    try:
        loaded = file.decode(content)
    except ValueError as error:
        loaded = str(error)
    assert isinstance(loaded, artifact.Artifact) or loaded.startswith("its metadata")


def header_file(header: dict, content: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def test_headers_that_promise_too_much(data, refuses):
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    metadata = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    refuses(header_file({"__metadata__": metadata, "pools/float32": entry}), "cut off or damaged")
    refuses(header_file({"pools/float32": entry}), "not an artifact")
    for wrong in (
        {"shape": [2**40], "data_offsets": [0, 16]},
        {"shape": [2**62, 4], "data_offsets": [0, 0]},
        {"shape": [-1], "data_offsets": [4, 0]},
        {"shape": [True], "data_offsets": [0, 4]},
        {"shape": [1.0], "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [2**70, 2**70 + 4]},
        {"shape": [1] * 1000, "data_offsets": [0, 4]},
        {"shape": "x", "data_offsets": [0, 4]},
        {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
    ):
        header = {"__metadata__": metadata, "pools/float32": {"dtype": "F32", **wrong}}
        refuses(header_file(header, b"\0" * 16), "cut off or damaged")
    refuses(struct.pack("<Q", 2**62) + data[8:], "header of 4611686018427387904 bytes")
    refuses(struct.pack("<Q", 100_000) + b"[" * 100_000, "not an artifact")
    refuses(header_file({"__metadata__": {"smh_jax": "[" * 100_000}}), "not JSON")


def test_names_are_never_paths(opened, tmp_path, refuses):
    tensors, metadata = opened
    for name in ("../../evil", "/etc/passwd", "pools/../x", ""):
        named = {**tensors, name: np.zeros(1, np.float32)}
        refuses(container.write(named, metadata, compress=False), "do not fit|not a safetensors")
    leaves = copy.deepcopy(metadata["leaves"])
    leaves["stored"][0][0] = "../../evil"
    refuses(
        container.write(tensors, {**metadata, "leaves": leaves}, compress=False),
        "evil .* is wanted",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.smh"]


def test_other_versions_and_other_files(data, refuses, tmp_path):
    refuses(
        data.replace(b'\\"format_version\\":2', b'\\"format_version\\":7'),
        "format version is 7; this version of smh_jax reads 1 and 2",
    )
    refuses(safetensors.numpy.save({"x": np.zeros(3)}), "no artifact of smh_jax")
    refuses(b"\x80\x04\x95" + b"pickle" * 10, "not an artifact")
    refuses(zstandard.compress(b"something else"), "not an artifact")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        smh_jax.load(tmp_path / "nothing.smh")


@pytest.mark.parametrize(("value", "match"), [
    (None, "KeyError"), (5, "TypeError"), ("&", "Error"), ("AAAA", "damaged"),
    (base64.b64encode(zlib.compress(b"[" * 100_000)).decode(), "RecursionError"),
])  # fmt: skip
def test_descriptions_of_version_1_that_cannot_be_read(value, match, opened, refuses, monkeypatch):
    tensors, metadata = opened
    assert file.decode(artifacts.write_version_1(tensors, metadata)).class_names
    without = {key: there for key, there in metadata.items() if key != "leaves"}
    if value is not None:
        monkeypatch.setattr(container, "_PACKED", ("manifest", "class_names"))
        without["leaves"] = value
    content = artifacts.write_version_1(tensors, without)
    monkeypatch.undo()
    refuses(content, f"its metadata 'leaves' cannot be read: .*{match}")


@pytest.mark.parametrize(("changes", "match"), [
    ({"method": {"target_size": 10**15}}, "target_size=1000000000000000 is far beyond"),
    ({"method": {"target_size": 2400}}, "is wanted|do not fit"),
    ({"method": {"name": "os.system"}}, "method name='os.system' is unknown"),
    ({"method": {"options": {"blocks": 10**9}}}, "do not fit"),
    ({"method": {"options": {"matrix_size": 10**12}}}, "do not fit"),
    ({"method": {"options": {"no_such": 1}}}, "option 'no_such' of method smh is unknown"),
    ({"model": {"name": "cifar_resnet6000002"}}, "far more layers"),
    ({"model": {"name": "cifar_resnet14"}}, "other tensors than the manifest"),
    ({"model": {"name": "../model"}}, "is unknown"),
    ({"model": {"num_classes": 10**12}}, "other tensors|do not describe|do not fit"),
    ({"model": {"options": {"width_multiplier": 1e12}}}, "other tensors|do not describe|not fit"),
    ({"preprocessing": {"image_shape": [10**9, 10**9, 1]}}, "inputs of .* are more than"),
    ({"preprocessing": {"stddev": [0.0]}}, "stddev"),
    ({"precision": "int5"}, "precision='int5' must be one of float32"),
])  # fmt: skip
def test_hostile_descriptions(changes, match, opened, refuses):
    tensors, metadata = opened
    for key, change in changes.items():
        old = metadata[key]
        if isinstance(change, dict):
            nested = {k: {**old[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
            change = {**old, **nested}
        metadata = {**metadata, key: change}
    refuses(container.write(tensors, metadata, compress=False), match)


def test_manifests_that_claim_too_much(opened, refuses):
    tensors, metadata = opened
    manifest = copy.deepcopy(metadata["manifest"])
    manifest["tensors"][0]["shape"] = [2**40]
    refuses(
        container.write(tensors, {**metadata, "manifest": manifest}, compress=False),
        "weights are more than",
    )


def test_shapes_that_are_no_numbers(opened, refuses):
    tensors, metadata = opened
    leaves = copy.deepcopy(metadata["leaves"])
    leaves["pools"][0][2] = ["a", 10**9]
    refuses(container.write(tensors, {**metadata, "leaves": leaves}, compress=False), "whole num")


def test_coded_integers_that_are_far_more_than_their_bytes():
    words, tables = entropy_coder.encode([np.ones(1, np.int8)])
    decoder = entropy_coder.Decoder(words, tables)
    with pytest.raises(ValueError, match="far more coded integers than their bytes"):
        decoder.take(9_000_000)
    # Honest ones of which almost all are zero.
    sparse = np.zeros(3_000_000, np.int8)
    sparse[::1000] = 1
    words, tables = entropy_coder.encode([sparse])
    np.testing.assert_array_equal(entropy_coder.Decoder(words, tables).take(sparse.size), sparse)


def test_metadata_that_unpack_to_too_much(opened, refuses):
    tensors, _ = opened
    bomb = np.frombuffer(zlib.compress(b"[" * 2**27), np.uint8)
    text = json.dumps({"format_version": 2, "digest": "0" * 64}, separators=(",", ":"))
    whole = safetensors.numpy.save({**tensors, "metadata": bomb}, metadata={"smh_jax": text})
    digest = hashlib.sha256(whole).hexdigest().encode()
    refuses(whole.replace(b"0" * 64, digest, 1), "cut off, or")
    cut = np.frombuffer(zlib.compress(b"{}")[:-3], np.uint8)
    whole = safetensors.numpy.save({**tensors, "metadata": cut}, metadata={"smh_jax": text})
    digest = hashlib.sha256(whole).hexdigest().encode()
    refuses(whole.replace(b"0" * 64, digest, 1), "cut off, or")


def test_pools_of_other_shapes(opened, refuses):
    tensors, metadata = opened
    fewer = {**tensors, "pools/float32": tensors["pools/float32"][:-1]}
    refuses(container.write(fewer, metadata, compress=False), "fewer elements than its leaves")
    more = {**tensors, "scales/float32": np.zeros(1000, np.float32)}
    refuses(container.write(more, metadata, compress=False), "more elements than its leaves")
    leaves = copy.deepcopy(metadata["leaves"])
    leaves["pools"][0][2] = leaves["pools"][0][2][::-1]
    refuses(
        container.write(tensors, {**metadata, "leaves": leaves}, compress=False),
        "is wanted",
    )


@pytest.mark.parametrize(("group", "change", "match"), [
    ("scales/float32", lambda x: x.view(np.int32), "int32 .*, not flat float32"),
    ("stored/float32", lambda x: x.astype(np.int64), "int64 .*, not flat float32"),
    ("pools/float32", lambda x: x[np.newaxis], r"float32 \(1, .*\), not flat float32"),
    ("pools/float32", lambda x: x.astype(np.float16), "float16 .*, not flat float32"),
    ("scales/float32", lambda x: x * np.nan, "scales/float32 has numbers that are not finite"),
    ("model_state/float32", lambda x: x + np.inf, "model_state/float32 has .* not finite"),
])  # fmt: skip
def test_tensors_of_other_types_than_described(group, change, match, opened, refuses):
    tensors, metadata = opened
    changed = {**tensors, group: change(tensors[group])}
    refuses(container.write(changed, metadata, compress=False), match)


@pytest.mark.parametrize(("precision", "group", "change"), [
    ("int8", "pools/int8", lambda x: x[np.newaxis]),
    ("int8", "pools/int8", lambda x: x.view(np.uint8)),
    ("int4", "pools/int4", lambda x: x.view(np.int8)),
    ("int8", "pools/row_scales", lambda x: x.astype(np.float64)),
])  # fmt: skip
def test_rounded_pools_of_other_types(precision, group, change, refuses):
    content = artifact.encode(artifacts.make().at(precision))
    tensors, metadata = container.read(content)
    metadata = {k: v for k, v in metadata.items() if k not in ("digest", "format_version")}
    changed = {**tensors, group: change(tensors[group])}
    refuses(container.write(changed, metadata, compress=False), f"{group} is .*, not flat")


def test_messages_are_short(opened, refuses):
    tensors, metadata = opened
    for key, value in (("precision", "x" * 500_000), ("manifest", {"x" * 500_000: 1})):
        refuses(container.write(tensors, {**metadata, key: value}, compress=False), "do not fit")


def test_compressed_files_that_claim_too_much(data, refuses):
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(2**29))
    refuses(bomb, "at most .* are believed")
    # Streamed frames do not say their size.
    refuses(zstandard.ZstdCompressor().compressobj().compress(data) + b"", "damaged|believed|cut")
    stream = zstandard.ZstdCompressor().compressobj()
    refuses(stream.compress(bytes(2**29)) + stream.flush(), "believed")
    good = zstandard.ZstdCompressor().compress(data)
    refuses(good[:-10], "damaged|cut off")
    refuses(good + b"more", "damaged")


@pytest.fixture(scope="module")
def coded():
    tensors, metadata = container.read(artifact.encode(artifacts.make().at("coded")))
    return tensors, metadata


@pytest.mark.parametrize(("tensor", "change", "match"), [
    ("coded/tables", lambda x: x[:-1], "cut off"),
    ("coded/tables", lambda x: x[:0], "cut off"),
    ("coded/tables", lambda x: np.append(x, x), "more, or other"),
    ("coded/tables", lambda x: np.concatenate([[255], x[1:]]).astype(np.uint8), "is damaged"),
    ("coded/tables", lambda x: np.concatenate([x[:2], [0], x[3:]]).astype(np.uint8), "is damaged"),
    ("coded/tables", lambda x: x.view(np.int8), "not flat uint8"),
    ("coded/stream", lambda x: x[:-1], "more, or other"),
    ("coded/stream", lambda x: np.append(x, x), "more, or other"),
    ("coded/stream", lambda x: np.append(x, [0]).astype(np.uint32), "word of 0"),
    ("coded/stream", None, "missing"),
    ("coded/log8", lambda x: x[:-1], "fewer elements"),
    ("coded/steps", lambda x: (x * np.nan).astype(x.dtype), "not finite"),
    ("coded/steps", lambda x: x.astype(np.float32), "not flat bfloat16"),
])  # fmt: skip
def test_coded_integers_that_are_damaged(tensor, change, match, coded, refuses):
    tensors, metadata = coded
    changed = {**tensors}
    values = changed.pop(tensor)
    if change is not None:
        changed[tensor] = change(values)
    refuses(container.write(changed, metadata, compress=False), match)


def test_any_coded_integers_are_refused_or_harmless(coded):
    tensors, metadata = coded
    random, refused = np.random.default_rng(0), 0
    for _ in range(12):
        changed = {name: values.copy() for name, values in tensors.items()}
        for _ in range(random.integers(1, 4)):
            values = changed[random.choice(["coded/stream", "coded/tables"])].view(np.uint8)
            values[random.integers(values.size)] = random.integers(256)
        try:
            loaded = file.decode(container.write(changed, metadata, compress=False))
        except ValueError:
            refused += 1
        else:
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(loaded.variables))
    assert refused > 6
