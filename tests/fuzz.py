"""Files that are valid outside and wrong inside: python -m tests.fuzz --cases=10000 --seed=0

What an artifact, a checkpoint or a file of weights holds is changed at random and written anew,
with a digest that fits; the files of checkpoints are also damaged as disks do it. Every one must be
refused with a short message, or give what the unchanged one does, or, of a damaged checkpoint, what
the one before it does. A description of another sound model, such as another normalization of the
images, is counted by itself.
"""

import argparse
import collections
import copy
import pathlib
import random
import shlex
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from typing import Any

import flax.serialization
import flax.struct
import flax.traverse_util
import h5py
import jax
import numpy as np
import safetensors.numpy
from absl import logging
from etils import epath

from smh_jax.shipping import artifact, params_file
from smh_jax.shipping.artifact import container, file
from smh_jax.shipping.pretrained import readers
from smh_jax.training import checkpoint
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from tests import artifacts
from tests.small import digits_config

_LONGEST_MESSAGE = 1500
_VALUES = (
    None, True, -1, 0, 1, 2, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf"), -1e308, "",
    "x", "../../x", "x" * 1000, [], {}, [[]], [None], [1, 2, 3], {"a": 1}, [[[[[[[[]]]]]]]],
)  # fmt: skip


def changed_json(choose: random.Random, value: Any) -> Any:
    """A JSON value of which one part, at any depth, is dropped, doubled or replaced."""
    value = copy.deepcopy(value)
    node = value
    while isinstance(node, dict | list) and node:
        key = choose.choice(list(node) if isinstance(node, dict) else range(len(node)))
        inner = node[key]
        if isinstance(inner, dict | list) and inner and choose.random() < 0.9:
            node = inner
            continue
        kind = choose.randrange(4)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, list):
            node.append(inner)
        else:
            node[key] = copy.deepcopy(choose.choice(_VALUES))
        return value
    return copy.deepcopy(choose.choice(_VALUES))


def changed_array(choose: random.Random, x: np.ndarray) -> np.ndarray:
    """An array of another type or shape, or with numbers that are not finite."""
    dtypes = ("int8", "uint8", "int64", "float16", "float64", "bool")
    options: list[Callable[[], np.ndarray]] = [
        lambda: x[:-1] if x.ndim else x[np.newaxis],
        lambda: np.concatenate([x, x]) if x.ndim else x[np.newaxis],
        lambda: x[np.newaxis],
        lambda: x.reshape(-1, 1),
        lambda: x.astype(choose.choice(dtypes)),
        lambda: np.zeros(0, x.dtype),
        lambda: np.where(np.arange(x.size).reshape(x.shape) == x.size // 2, np.nan, x).astype(
            x.dtype if x.dtype.kind == "f" else np.float32
        ),
    ]
    return np.ascontiguousarray(choose.choice(options)())


def changed_tensors(choose: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    """Named tensors of which one is dropped, renamed, added or changed."""
    tensors = dict(tensors)
    name = choose.choice(sorted(tensors))
    kind = choose.randrange(5)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[choose.choice(["", "x", "../x", name + "/x", "pools/int8"])] = tensors.pop(name)
    elif kind == 2:
        tensors[name + choose.choice(["2", "/", ".x"])] = tensors[name]
    else:
        tensors[name] = changed_array(choose, np.asarray(tensors[name]))
    return tensors


def changed_bytes(choose: random.Random, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The coded integers or their tables, of which a few bytes are others."""
    name = choose.choice(["coded/stream", "coded/tables"])
    values = tensors[name].copy()
    for _ in range(choose.randint(1, 4)):
        values.view(np.uint8)[choose.randrange(values.nbytes)] = choose.randrange(256)
    return {name: values}


class Artifacts:
    """Artifacts of several methods and precisions, of both versions."""

    def __init__(self) -> None:
        kinds = [
            ("smh", None), ("smh", "int8"), ("multi_hash", "int4"), ("tucker", None),
            ("smh", "coded:0.5"), ("dense", "int2"),
        ]  # fmt: skip
        self._sound = []
        for kind, precision in kinds:
            made = artifacts.make(kind)
            content = artifact.encode(made.at(precision) if precision else made)
            tensors, metadata = container.read(content)
            self._sound.append((tensors, metadata, file.decode(content)))
        # Nearly all of the time is spent on tracing the same few models again.
        file._model_state = _remembered(file._model_state)

    def __call__(self, choose: random.Random, folder: pathlib.Path) -> str:
        tensors, metadata, sound = choose.choice(self._sound)
        kind = choose.random()
        if kind < 0.3:
            tensors = changed_tensors(choose, tensors)
        elif kind < 0.5 and "coded/stream" in tensors:
            tensors = {**tensors, **changed_bytes(choose, tensors)}
        else:
            key = choose.choice(sorted(metadata))
            metadata = {**metadata, key: changed_json(choose, metadata[key])}
            if choose.random() < 0.05:
                del metadata[key]
        if choose.random() < 0.3:
            content = artifacts.write_version_1(tensors, metadata)
        else:
            content = container.write(tensors, metadata, compress=choose.random() < 0.1)
        loaded = file.decode(content)
        same = all(
            np.array_equal(one, other)
            for one, other in zip(
                jax.tree.leaves((loaded.stored, loaded.model_state)),
                jax.tree.leaves((sound.stored, sound.model_state)),
                strict=True,
            )
        )
        # What predictions are made of; all else is said of a model.
        parts = ("method", "precision", "model", "preprocessing")
        same = same and all(getattr(loaded, part) == getattr(sound, part) for part in parts)
        return "equal" if same else "another sound model"


def _remembered(model_state: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which is not called again for what it has found to fit."""
    known: dict[Any, Any] = {}

    def remembered(model: Any, manifest: Any, preprocessing: Any) -> Any:
        key = (repr(model), manifest, repr(preprocessing))
        if key not in known:
            known[key] = model_state(model, manifest, preprocessing)
        return known[key]

    return remembered


@flax.struct.dataclass
class State:
    """Stands for the state of a training."""

    step: np.ndarray
    variables: dict[str, Any]
    ema: tuple[np.ndarray, ...]


class Saved:
    """Folders of a run with two checkpoints, of which files are damaged, or the content changed."""

    def __init__(self, folder: pathlib.Path) -> None:
        normal = np.random.default_rng(0).normal
        self._states = {
            step: State(
                step=np.asarray(step, np.int32),
                variables={
                    "pools": {"u": normal(size=(5, 3)).astype("f4"), "v": np.zeros((3, 5), "f4")},
                    "scales": normal(size=7).astype("f4"),
                },
                ema=(normal(size=4).astype("f4"), np.asarray(step, np.int32)),
            )
            for step in (4, 8)
        }
        self._folder = folder / "sound"
        with Checkpoints(epath.Path(self._folder), keep=3) as checkpoints:
            for step, state in self._states.items():
                checkpoints.save(state, {"unlogged": {"loss": [1.5, step]}, "train_seconds": 2.0})
                checkpoints.wait()
        self._copies = 0

    def __call__(self, choose: random.Random, folder: pathlib.Path) -> str:
        self._copies += 1
        path = folder / f"run{self._copies}"
        shutil.copytree(self._folder, path)
        try:
            if choose.random() < 0.25:
                try:
                    self._change(choose, path)
                except Exception:
                    return "such a one cannot be written"
            else:
                for _ in range(choose.choice([1, 1, 2])):
                    self._damage(choose, path)
            return self._restored(path)
        finally:
            # A thread of orbax may still be writing.
            shutil.rmtree(path, ignore_errors=True)

    def _damage(self, choose: random.Random, path: pathlib.Path) -> None:
        """Does to a file or folder what disks and people do."""
        files = [found for found in sorted(path.rglob("*")) if found.is_file()]
        if not files:
            return
        names = sorted({found.name for found in files})
        name = choose.choice(names)
        target = choose.choice([found for found in files if found.name == name])
        kind = choose.randrange(6)
        content = bytearray(target.read_bytes())
        if kind == 0 and content:
            for _ in range(choose.choice([1, 1, 3])):
                content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
            target.write_bytes(content)
        elif kind == 1 and content:
            target.write_bytes(content[: choose.randrange(len(content))])
        elif kind == 2:
            target.unlink()
        elif kind == 3:
            target.write_bytes(choose.randbytes(choose.choice([0, 1, 100, len(content)])))
        elif kind == 4:
            target.write_bytes(choose.choice(files).read_bytes())
        else:
            folders = [found for found in sorted(path.rglob("*")) if found.is_dir()]
            shutil.rmtree(choose.choice(folders))

    def _change(self, choose: random.Random, path: pathlib.Path) -> None:
        """Saves another checkpoint in the place of the newest, with a digest that fits."""
        shutil.rmtree(path / "checkpoints" / "8")
        tree = flax.serialization.to_state_dict(self._states[8])
        kind = choose.randrange(3)
        if kind == 0:
            pools = changed_tensors(choose, tree["variables"]["pools"])
            tree["variables"] = {**tree["variables"], "pools": pools}
        elif kind == 1:
            tree["variables"] = changed_tensors(choose, {"scales": tree["variables"]["scales"]})
        else:
            tree["step"] = changed_array(choose, np.asarray(tree["step"]).reshape(1)).reshape(-1)
        progress = {"unlogged": {"loss": [1.5, 8]}, "train_seconds": 2.0}
        state = types.SimpleNamespace(**tree)
        with Checkpoints(epath.Path(path), keep=3) as checkpoints:
            written = {checkpoint._WRITTEN_BY: {"version": "0"}}
            written[checkpoint._WRITTEN_BY]["sha256"] = checkpoint._digest(
                vars(state), progress | written
            )
            checkpoints._manager.save(
                8,
                args=checkpoint.ocp.args.Composite(
                    state=checkpoint.ocp.args.StandardSave(vars(state)),
                    progress=checkpoint.ocp.args.JsonSave(progress | written),
                ),
            )

    def _restored(self, path: pathlib.Path) -> str:
        before = sum(1 for found in path.rglob("*") if found.is_file())
        with Checkpoints(epath.Path(path), keep=3) as checkpoints:
            state, _ = checkpoints.restore(self._states[8])
        step = int(state.step)
        if step not in self._states or not all(
            np.array_equal(one, other)
            for one, other in zip(
                jax.tree.leaves(state), jax.tree.leaves(self._states[step]), strict=True
            )
        ):
            return "another state of the same shapes"
        if sum(1 for found in path.rglob("*") if found.is_file()) < before:
            raise AssertionError("a damaged checkpoint was deleted")
        return "equal" if step == 8 else "the checkpoint before it"


class Params:
    """A Flax model's collections in files for `--params`, which are checked with the model."""

    def __init__(self, data_dir: str) -> None:
        self._run = run = Run.from_config(digits_config(data_dir))
        state = jax.jit(Program.for_run(run, num_examples=1).init_state)()
        self._like = state.model_state
        params = jax.jit(run.method.materialize)(state.variables)
        collections = {"params": params, **state.model_state}
        self._tensors = {
            "/".join(path): np.asarray(leaf)
            for path, leaf in flax.traverse_util.flatten_dict(collections).items()
        }

    def __call__(self, choose: random.Random, folder: pathlib.Path) -> str:
        changed = changed_tensors(choose, self._tensors)
        path = folder / choose.choice(["x.msgpack", "x.safetensors"])
        if path.suffix == ".safetensors":
            path.write_bytes(safetensors.numpy.save(changed))
        else:
            tree: Any = flax.traverse_util.unflatten_dict(
                {tuple(name.split("/")): x for name, x in self._tensors.items()}
            )
            if choose.random() < 0.5:
                tree["params"] = _changed_tree(choose, tree["params"])
            else:
                tree = _changed_tree(choose, tree)
            path.write_bytes(flax.serialization.msgpack_serialize(tree))
        params, state = params_file.fit(
            params_file.read(path), self._run.method.manifest, self._like
        )
        loaded = flax.traverse_util.flatten_dict({"params": params, **state}, sep="/")
        if {name: x.shape for name, x in loaded.items()} != {
            name: x.shape for name, x in self._tensors.items()
        } or not all(np.isfinite(np.asarray(x, np.float32)).all() for x in loaded.values()):
            raise AssertionError("what is not of the model was taken")
        same = all(np.array_equal(x, self._tensors[name]) for name, x in loaded.items())
        return "equal" if same else "other numbers that fit"


def _changed_tree(choose: random.Random, tree: dict[str, Any]) -> dict[str, Any]:
    """A tree of which a node or leaf at any depth is changed."""
    key = choose.choice(sorted(tree))
    if isinstance(tree[key], dict) and choose.random() < 0.8:
        return {**tree, key: _changed_tree(choose, tree[key])}
    if isinstance(tree[key], np.ndarray) and choose.random() < 0.7:
        return changed_tensors(choose, tree)
    changed = dict(tree)
    value = changed.pop(key)
    if choose.random() < 0.8:
        new = choose.choice(["", "x", key + "/x", key])
        changed[new] = choose.choice(
            [value, {"x": value}, {}, 1.5, "x", None, [1.0], np.float32(1)]
        )
    return changed


class Weights:
    """Another library's weights in files for `--params`, which are read by themselves."""

    def __init__(self) -> None:
        normal = np.random.default_rng(0).normal
        self._tensors = {f"layer_{i}.weight": normal(size=(3, 4)).astype("f4") for i in range(4)}

    def __call__(self, choose: random.Random, folder: pathlib.Path) -> str:
        changed = changed_tensors(choose, self._tensors)
        path = folder / choose.choice(["x.safetensors", "x.h5"])
        if path.suffix == ".safetensors":
            path.write_bytes(safetensors.numpy.save(changed))
        else:
            with h5py.File(path, "w") as written:
                _write_h5(choose, written, changed)
        if choose.random() < 0.3:
            content = bytearray(path.read_bytes())
            for _ in range(choose.randint(1, 3)):
                content[choose.randrange(len(content))] = choose.randrange(256)
            path.write_bytes(content[: choose.choice([None, None, choose.randrange(len(content))])])
        loaded = readers.read(path)
        if not all(isinstance(x, np.ndarray) and x.dtype != object for x in loaded.values()):
            raise AssertionError("read what is no array")
        return "read, before it is checked with the model"


def _write_h5(choose: random.Random, written: h5py.File, tensors: dict[str, np.ndarray]) -> None:
    names = [f"layer{i}" for i in range(len(tensors))]
    written.attrs["layer_names"] = choose.choice([names, names, names, [*names, "no"], [], "x", 3])
    for name, x in zip(names, tensors.values(), strict=True):
        group = written.create_group(name)
        group.attrs["weight_names"] = choose.choice([["kernel"], ["kernel"], ["../x"], [""], 1.5])
        kind = choose.randrange(8)
        if kind == 0:
            group["kernel"] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == 1:
            group["kernel"] = h5py.SoftLink("/")
        elif kind == 2:
            group.create_group("kernel")
        elif kind == 3:
            group["kernel"] = "text"
        else:
            group["kernel"] = x


def main(arguments: list[str] | None = None) -> int:
    """Tries the cases and prints what became of them; 1 if one was neither refused nor right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="case to begin with")
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    counts, broken, begin = collections.Counter(), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        kinds = {
            "artifact": Artifacts(),
            "checkpoint": Saved(folder),
            "--params file of Flax": Params(temporary),
            "--params file of others": Weights(),
        }
        for number in range(options.first, options.first + options.cases):
            choose = random.Random(f"{options.seed} {number}")
            name = choose.choices(list(kinds), weights=[5, 2, 2, 1])[0]
            try:
                end = kinds[name](choose, folder)
            except ValueError as error:
                end = "refused"
                if len(str(error)) > _LONGEST_MESSAGE or not str(error).strip():
                    end = f"BROKEN: a message of {len(str(error))} characters"
                    print(f"case {number}: {error!r:.300}", flush=True)
            except Exception as error:
                end = f"BROKEN: {type(error).__name__}"
                print(f"case {number}: {error!r:.300}", flush=True)
            broken += end.startswith("BROKEN")
            counts[name, end] += 1
    seconds = time.monotonic() - begin
    print(f"`{shlex.join(['python', *sys.orig_argv[1:]])}`: {broken} broken, {seconds:.0f} s\n")
    print("| file | end | cases |\n| --- | --- | ---: |")
    for (name, end), count in sorted(counts.items()):
        print(f"| {name} | {end} | {count} |")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
