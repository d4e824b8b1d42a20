"""Generating all weights: forward, and forward + backward, against the bare matrix products."""

import statistics

import jax
import jax.numpy as jnp

from benchmarks import timing, training_step
from benchmarks.benchmark import Row
from smh_jax import Manifest, methods, models

METHODS = training_step.METHODS | {
    "tensor train": ("tensor_train", {}),
    "Tucker": ("tucker", {}),
    "low rank": ("low_rank", {}),
}
LIMIT, COPY = "bare products", "memory copy"
# Forward, and forward + backward.
Programs = tuple[timing.Program, timing.Program]


def bare_products(method: methods.Method) -> Programs:
    """W = U V, and both of its transposes: what no way of generating SMH's weights can avoid."""

    def forward_backward(u, v, gradient):
        return u @ v, gradient @ v.T, u.T @ gradient

    pools = method.init_pools(jax.random.key(0))
    u, v = pools["u"], pools["v"]
    gradient = jax.random.normal(jax.random.key(1), (u.shape[0], v.shape[1]))
    return timing.compiled(jnp.matmul, u, v), timing.compiled(forward_backward, u, v, gradient)


def passes(method: methods.Method, variables: methods.Variables) -> Programs:
    """The forward and forward + backward passes of a method."""

    def forward_backward(variables, gradient):
        params, backward = jax.vjp(method.materialize, variables)
        return params, backward(gradient)

    shapes = jax.eval_shape(method.materialize, variables)
    gradient = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3, x.dtype), shapes)
    return (
        timing.compiled(method.materialize, variables),
        timing.compiled(forward_backward, variables, gradient),
    )


def memory_copy(num_weights: int) -> Programs:
    """A copy of as many numbers as there are weights; with the backward pass, a second one."""
    weights = jnp.ones(num_weights)
    # A negation reads and writes as a copy does, and is not left out.
    return (
        timing.compiled(lambda x: -x, weights),
        timing.compiled(lambda x, y: (-x, -y), weights, weights + 1),
    )


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:target_size'."""
    model_name, target_size = case.split(":")
    model = models.create(model_name, num_classes=1000)
    # Neither the initial values nor the resolution matter to what is measured.
    manifest = Manifest.from_model(model, (1, 224, 224, 3), measure=False)
    params = manifest.tree({t.name: jnp.zeros(t.shape, t.dtype) for t in manifest.tensors})
    compared = {
        label: methods.create(name, manifest, target_size=int(target_size), **options)
        for label, (name, options) in METHODS.items()
    }
    programs = {LIMIT: bare_products(compared["smh"]), COPY: memory_copy(manifest.num_hashed)}
    for label, method in compared.items():
        programs[label] = passes(method, method.init(jax.random.key(0), params))
    rows: dict[str, Row] = {
        label: {
            "model": model_name,
            "target_size": int(target_size),
            "method": label,
            "num_variables": compared[label].num_variables if label in compared else None,
        }
        for label in programs
    }
    for index, direction in enumerate(("forward", "forward_backward")):
        candidates = {label: both[index] for label, both in programs.items()}
        seconds = timing.interleaved(candidates, repeats)
        for label, row in rows.items():
            memory = candidates[label].executable.memory_analysis()
            row[f"{direction}_seconds"] = statistics.median(seconds[label])
            row[f"{direction}_ratio"] = timing.median_ratio(seconds[label], seconds[LIMIT])
            row[f"{direction}_temporary_bytes"] = memory.temp_size_in_bytes
    for row in rows.values():
        row["forward_backward_temporary_mib"] = row["forward_backward_temporary_bytes"] / 2**20
        row["milliseconds"] = 1e3 * row["forward_seconds"]
        row["both_milliseconds"] = 1e3 * row["forward_backward_seconds"]
    return list(rows.values())
