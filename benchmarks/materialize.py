"""Generating all weights: forward, and forward + backward, against the bare matrix products."""

import statistics

import jax
import jax.numpy as jnp

from benchmarks import timing, training_step
from benchmarks.benchmark import Bars, Benchmark, Row
from smh_jax import Manifest, methods, models

METHODS = training_step.METHODS | {
    "tensor train": ("tensor_train", {}),
    "Tucker": ("tucker", {}),
    "low rank": ("low_rank", {}),
}
LIMIT, COPY = "bare products", "memory copy"


def bare_products(method: methods.Method):
    """W = U V, and both of its transposes: what no way of generating SMH's weights can avoid."""

    def forward(u, v):
        return u @ v

    def forward_backward(u, v, gradient):
        return u @ v, gradient @ v.T, u.T @ gradient

    pools = method.init_pools(jax.random.key(0))
    u, v = pools["u"], pools["v"]
    gradient = jax.random.normal(jax.random.key(1), (u.shape[0], v.shape[1]))
    return timing.compiled(forward, u, v), timing.compiled(forward_backward, u, v, gradient)


def passes(method: methods.Method, variables: methods.Variables):
    """Compiled forward and forward + backward passes of a method on their arguments."""

    def forward_backward(variables, gradient):
        params, backward = jax.vjp(method.materialize, variables)
        return params, backward(gradient)

    shapes = jax.eval_shape(method.materialize, variables)
    gradient = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3, x.dtype), shapes)
    return (
        timing.compiled(method.materialize, variables),
        timing.compiled(forward_backward, variables, gradient),
    )


def memory_copy(num_weights: int):
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
    rows: list[Row] = [
        {
            "model": model_name,
            "target_size": int(target_size),
            "method": label,
            "num_variables": compared[label].num_variables if label in compared else None,
        }
        for label in programs
    ]
    for index, direction in enumerate(("forward", "forward_backward")):
        candidates = {label: program[index].call for label, program in programs.items()}
        seconds = timing.interleaved(candidates, repeats)
        for row in rows:
            label = row["method"]
            row[f"{direction}_seconds"] = statistics.median(seconds[label])
            row[f"{direction}_ratio"] = timing.median_ratio(seconds[label], seconds[LIMIT])
            row[f"{direction}_temporary_bytes"] = programs[label][index].temporary_bytes
    for row in rows:
        row["forward_backward_temporary_mib"] = row["forward_backward_temporary_bytes"] / 2**20
        row["milliseconds"] = 1e3 * row["forward_seconds"]
        row["both_milliseconds"] = 1e3 * row["forward_backward_seconds"]
    return rows


BENCHMARK = Benchmark(
    name="materialize",
    question="What does it cost to generate all weights?",
    cases=(
        *("efficientnet_b0:3000000", "efficientnet_b1:5300000", "efficientnet_b2:5300000"),
        *("efficientnet_b3:5300000", "efficientnet_b4:5000000", "efficientnet_b5:5300000"),
        "efficientnet_b6:5300000",
    ),
    small_cases=("cifar_resnet8:20000",),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("target_size", "target", ","),
        ("method", "method", ""),
        ("milliseconds", "forward, ms", ".0f"),
        ("forward_ratio", "x products", ".2f"),
        ("both_milliseconds", "forward + backward, ms", ".0f"),
        ("forward_backward_ratio", "x products", ".2f"),
        ("forward_backward_temporary_mib", "temporary MiB", ".0f"),
    ),
    plot=Bars(
        value="forward_backward_ratio",
        title="Generating all weights, forward + backward",
        label="multiples of the bare matrix products",
        line=1.0,
    ),
)
