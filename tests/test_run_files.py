"""The files of a run that are cut off at any byte or hold what was never written."""

import json
import re

import pytest
from etils import epath

from configs import digits
from smh_jax import Manifest, config
from smh_jax.config import files
from smh_jax.training import run_figures
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.metrics_file import JsonLinesWriter, cut, read_rows, rows_until
from smh_jax.training.workdir import Workdir
from tests.small import TwoLayers, digits_config


@pytest.fixture
def workdir(tmp_path):
    """A folder with the three JSON files of a run."""
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1))
    workdir = Workdir(tmp_path)
    workdir.describe(config.from_config_dict(digits.get_config("depth=8")), manifest)
    workdir.write_result({"steps": 5, "test_accuracy": 0.5, "versions": {"jax": "1"}})
    return workdir


JSON_FILES = ["config.json", "manifest.json", "result.json"]


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_files_cut_off_at_any_byte(name, workdir):
    content = (workdir.path / name).read_bytes()
    for size in range(len(content) - 1):
        with pytest.raises(ValueError, match=r"^(Expecting|Unterminated|Invalid|Extra)"):
            files.parse_json_with_digest(content[:size])
    # All but the line's end.
    files.parse_json_with_digest(content[:-1])


@pytest.mark.parametrize("name", JSON_FILES)
def test_a_json_file_that_is_damaged_is_named(name, workdir):
    path = workdir.path / name
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" + content[1:], b"[" * 100_000):
        path.write_bytes(damaged)
        named = rf"{re.escape(str(path))}|no readable {name}"
        with pytest.raises(ValueError, match=named) as refused:
            workdir.result() if name == "result.json" else workdir.read()
        assert len(str(refused.value)) < 600


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_kill_at_any_byte_leaves_the_old_content_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    old, new = {"steps": 5}, {"steps": 6, "test_accuracy": 0.5}
    files.write_json_with_digest(path, old)

    def write_a_part(self, data):
        with self.open("wb") as file:
            file.write(data[:size])
        raise Killed

    with monkeypatch.context() as patches:
        patches.setattr(type(epath.Path(path)), "write_bytes", write_a_part)
        for size in range(200):  # noqa: B007 (read by the function above)
            with pytest.raises(Killed):
                files.write_json_with_digest(path, new)
            assert files.read_json_with_digest(path) == old
    files.write_json_with_digest(path, new)
    assert files.read_json_with_digest(path) == new


@pytest.fixture
def metrics(tmp_path):
    """A file of rows of every second step, and the digest that was known after each."""
    path = tmp_path / "metrics.jsonl"
    writer, digests = JsonLinesWriter(path), {}
    for step in range(2, 11, 2):
        writer.write_scalars(step, {"train_loss": 1.0 / step})
        writer.flush()
        digests[step] = writer.digest
    return path, digests


def test_rows_cut_off_at_any_byte(metrics):
    path, digests = metrics
    content = path.read_bytes()
    ends = [0] + [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content)):
        path.write_bytes(content[:size])
        complete = sum(end <= size for end in ends) - 1
        assert [row["step"] for row in read_rows(path)] == [2 * n for n in range(1, complete + 1)]
        # The checkpoint of step 6 has three rows.
        if complete < 3:
            with pytest.raises(
                ValueError, match=rf"{path} is damaged \(rows up to step 6 are miss"
            ):
                rows_until(path, 6, digests[6])
        else:
            kept = rows_until(path, 6, digests[6])
            assert path.read_bytes() == content[:size]
            cut(path, kept)
            assert path.read_bytes() == kept == content[: ends[3]]


def test_every_flipped_bit_of_a_row_is_noticed(metrics):
    path, digests = metrics
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            rows_until(path, 10, digests[10])


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\n", b"\xff\xfe\n", b"[1]\n", b'{"step": "4"}\n', b"[" * 100_000 + b"\n"]
)
def test_rows_of_garbage_in_the_middle(garbage, metrics):
    path, digests = metrics
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], garbage, *lines[2:]]))
    with pytest.raises(ValueError, match=rf"{path} is damaged in row 3: b") as refused:
        read_rows(path)
    assert len(str(refused.value)) < 400
    # Of a run from before there were digests, too.
    for digest in (digests[6], None):
        with pytest.raises(ValueError, match=rf"{path} is damaged \(in row 3: .*rename it"):
            rows_until(path, 6, digest)
    # What comes after the checkpoint is written again in any case.
    assert rows_until(path, 4, digests[4]) == b"".join(lines[:2])


@pytest.mark.slow
def test_a_run_whose_rows_were_damaged(digits_dir, tmp_path, caplog):
    config = digits_config(digits_dir, epochs=12 / 22.453125)
    result = train_and_evaluate(config, tmp_path)
    path = tmp_path / "metrics.jsonl"
    content = path.read_bytes()
    assert [row["step"] for row in read_rows(path)] == [4, 8, 12]
    lines = content.splitlines(keepends=True)
    damaged = b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]])
    path.write_bytes(damaged)
    for read in (run_figures.pictures_of, lambda folder: train_and_evaluate(config, folder)):
        with pytest.raises(ValueError, match=rf"{path} is damaged .*row 2"):
            read(tmp_path)
        assert path.read_bytes() == damaged
    path.write_bytes(content)
    assert train_and_evaluate(config, tmp_path) == result
    assert "curves" in run_figures.pictures_of(tmp_path)
    path.rename(tmp_path / "metrics.damaged")
    assert train_and_evaluate(config, tmp_path) == result
    assert f"{path} is missing: the rows up to step 12 are lost" in caplog.text
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 12
