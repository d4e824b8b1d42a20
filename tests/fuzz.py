"""Files that are valid outside and wrong inside: python -m tests.fuzz --cases=10000 --seed=0

What an artifact or a file of weights holds is changed at random and written anew, with a digest
that fits. Every one must be refused with a short message, or give what the unchanged one does;
a description that is that of another sound model, such as another normalization of the images, is
counted by itself.
"""

import argparse
import collections
import copy
import pathlib
import random
import shlex
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import flax.serialization
import h5py
import jax
import numpy as np
import safetensors.numpy

from smh_jax.shipping import artifact, params_file
from smh_jax.shipping.artifact import container, file
from smh_jax.shipping.pretrained import readers
from tests import artifacts

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
    """Artifacts of several methods and precisions."""

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
        loaded = file.decode(container.write(tensors, metadata, compress=False))
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


class Weights:
    """Named tensors in files of three formats, read for `--params`."""

    def __init__(self) -> None:
        make = np.random.default_rng(0).normal
        self._tensors = {f"layer_{i}/kernel": make(size=(3, 4)).astype("f4") for i in range(4)}

    def __call__(self, choose: random.Random, folder: pathlib.Path) -> str:
        suffix = choose.choice([".msgpack", ".safetensors", ".h5"])
        path = folder / f"x{suffix}"
        changed = changed_tensors(choose, self._tensors)
        if suffix == ".msgpack":
            tree = dict(changed)
            if choose.random() < 0.5:
                tree = changed_json(choose, {"params": {name: [1.0] for name in changed}})
            path.write_bytes(flax.serialization.msgpack_serialize(tree))
            params_file.read(path)
            return "read, checked with the model"
        if suffix == ".safetensors":
            path.write_bytes(safetensors.numpy.save(changed))
            found = readers.read(path)
        else:
            with h5py.File(path, "w") as written:
                _write_h5(choose, written, changed)
            found = readers.read(path)
        if not all(isinstance(x, np.ndarray) for x in found.values()):
            raise AssertionError("read what is no array")
        return "read, checked with the model"


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
    options = parser.parse_args(arguments)
    kinds = {"artifact": Artifacts(), "--params file": Weights()}
    counts, broken = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.cases):
            choose = random.Random(f"{options.seed} {number}")
            name = choose.choices(list(kinds), weights=[3, 1])[0]
            try:
                end = kinds[name](choose, pathlib.Path(temporary))
            except ValueError as error:
                end = "refused"
                if len(str(error)) > _LONGEST_MESSAGE or not str(error).strip():
                    end = f"BROKEN: a message of {len(str(error))} characters"
            except Exception as error:
                end = f"BROKEN: {type(error).__name__}"
                print(f"case {number}: {error!r:.300}", flush=True)
            broken += end.startswith("BROKEN")
            counts[name, end] += 1
    print(f"`{shlex.join(['python', *sys.orig_argv[1:]])}`: {broken} broken\n")
    print("| file | end | cases |\n| --- | --- | ---: |")
    for (name, end), count in sorted(counts.items()):
        print(f"| {name} | {end} | {count} |")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
