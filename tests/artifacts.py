"""Models in the form in which they are saved, without the training."""

import base64
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from smh_jax import Artifact, Manifest, methods, models
from smh_jax.shipping import artifact
from smh_jax.shipping.artifact import container

IMAGE_SHAPE = (8, 8, 1)
# Method, target size and options.
METHODS = {
    "smh": ("smh", 2500, {}),
    "kronecker": ("smh", 3000, {"layout": "kronecker", "blocks": 2, "scale_per": "channel"}),
    "bfloat16": ("smh", 2500, {"scale": "fixed", "modifier": "sign"}),
    "multi_hash": ("multi_hash", 2000, {"num_hashes": 2, "signs": True}),
    "combined": ("combined", 4000, {"parts": ("smh", "multi_hash:num_hashes=2")}),
    "tucker": ("tucker", 3000, {}),
    "tensor_ring": ("tensor_ring", 3000, {}),
    "dense": ("dense", None, {}),
}


@functools.cache
def make(
    kind: str = "smh",
    model: str = "cifar_resnet8",
    shape: tuple[int, ...] = IMAGE_SHAPE,
    width: float = 0.25,
    share: float | None = None,
    calibrated: bool = False,
    gain: float = 1.0,
) -> Artifact:
    """An artifact whose variables and batch statistics are random, so that all of them matter.

    Args:
        kind: of `METHODS`.
        model: its name.
        shape: of its images.
        width: multiplier of the model.
        share: of the model's weights, for a target size in place of the one of `METHODS`.
        calibrated: whether batch norm knows the statistics of images: in a deep model with others
            the logits would not depend on the image.
        gain: of all weights of a calibrated model: batch norm cancels it, and layers without it,
            the last ones among them, answer more strongly.
    """
    name, target_size, options = METHODS[kind]
    spec, module, manifest, state = _initialized(model, shape, width)
    if share is not None:
        target_size = int(share * manifest.num_weights)
    method = methods.create(name, manifest, target_size=target_size, **options)
    state = dict(state)
    variables = method.init(jax.random.key(1), state.pop("params"))
    random = np.random.default_rng(0)
    move = functools.partial(jax.tree.map, lambda x: _moved(random, np.asarray(x)))
    stored = {group: move(tree) for group, tree in variables.items()}
    if calibrated:
        stored["scales"] = gain * stored["scales"]
        state = _calibrated(module, jax.jit(method.materialize)(stored), state, shape)
    return Artifact(
        method=method,
        stored=stored,
        model_state=move(state),
        model=spec,
        preprocessing=artifact.Preprocessing(
            shape, mean=(0.3,) * shape[2], stddev=(0.4,) * shape[2]
        ),
        class_names=tuple(f"class {i}" for i in range(10)),
        accuracy={"accuracy": 0.5},
        provenance={"command": "none", "steps": 0},
    )


@functools.cache
def _initialized(model, shape, width):
    """A model's description, the module, its manifest and its initial collections."""
    options = models.default_options(model) | {"width_multiplier": width}
    spec = artifact.ModelSpec(model, 10, options)
    module = spec.create()
    init = jax.jit(lambda key: module.init(key, jnp.zeros((1, *shape)), train=False))
    return spec, module, Manifest.from_model(module, (1, *shape)), init(jax.random.key(0))


def _calibrated(module, params, state, shape):
    """A model's state with the statistics of a batch, whatever the momentum of its batch norm.

    An update is `momentum * old + (1 - momentum) * statistics`; those from zeros and from ones
    tell both.
    """
    batch = images(16, shape)

    @jax.jit
    def update(state):
        return module.apply(
            {"params": params, **state}, batch, True, mutable=list(state),
            rngs={"dropout": jax.random.key(2)},
        )[1]  # fmt: skip

    zeros = update(jax.tree.map(jnp.zeros_like, state))
    ones = update(jax.tree.map(jnp.ones_like, state))
    return jax.tree.map(lambda zero, one: zero / (1 - (one - zero)), zeros, ones)


def _moved(random: np.random.Generator, array: np.ndarray) -> np.ndarray:
    return (array * random.uniform(0.8, 1.2, array.shape) + 0.02).astype(array.dtype)


def write_version_1(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> bytes:
    """An artifact as they were first written, with the metadata in the header."""
    packed = {
        key: base64.b64encode(zlib.compress(json.dumps(metadata[key]).encode())).decode()
        for key in container._PACKED
        if key in metadata
    }
    described = {**metadata, **packed, "format_version": 1, "digest": container._NO_DIGEST}
    text = json.dumps(described, separators=(",", ":"))
    data = safetensors.numpy.save(tensors, metadata={container.KEY: text})
    blank = container._DIGEST.format(container._NO_DIGEST).encode()
    digest = container._DIGEST.format(hashlib.sha256(data).hexdigest()).encode()
    return data.replace(blank, digest, 1)


def images(count: int, shape: tuple[int, ...] = IMAGE_SHAPE) -> np.ndarray:
    """Normal float32 images, some brighter than others: averaged, noise alone is all the same."""
    random = np.random.default_rng(7)
    brightness = random.normal(size=(count, 1, 1, 1))
    return (random.normal(size=(count, *shape)) + brightness).astype(np.float32)


def run_alone(code: str, folder, forbidden: tuple[str, ...], *arguments: str) -> np.ndarray:
    """The array that code writes to `out`, run where the forbidden packages cannot be imported."""
    guard = f"""
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {forbidden!r}:
            raise ImportError('forbidden: ' + name)
sys.meta_path.insert(0, Guard())
import io, os
import numpy as np
try:
    import smh_jax
except ImportError:
    pass
else:
    raise SystemExit('the project can be imported')
"""
    # What libraries print must not come between the bytes.
    end = "\nnp.save(sys.argv[1], out)\n"
    target = folder / "out.npy"
    done = subprocess.run(
        [sys.executable, "-I", "-c", guard + code + end, str(target), *arguments],
        cwd=folder,
        env={"JAX_PLATFORMS": "cpu", "PATH": "", "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return np.load(io.BytesIO(target.read_bytes()))
