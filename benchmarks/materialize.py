"""Cost of generating the weights: python -m benchmarks.materialize

For each model and target size of the paper, side by side in one process: every method's forward
and forward + backward pass, the bare matrix products of SMH as the limit, and the temporary memory
of XLA's own analysis. Writes benchmarks/results/materialize.json and prints a table.
"""

import functools
import json
import pathlib
import statistics
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import timing
from smh_jax import Manifest, methods, models

MODELS = flags.DEFINE_list(
    "models",
    ["efficientnet_b0:3000000", "efficientnet_b2:5300000", "efficientnet_b4:5000000"],
    "model:target_size, the paper's.",
)
REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each candidate.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/materialize.json", "File to write.")

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "smh": ("smh", {}),
    "smh, Kronecker": ("smh", {"layout": "kronecker"}),
    "smh, 4 blocks": ("smh", {"blocks": 4}),
    "1 hash": ("multi_hash", {}),
    "2 hashes": ("multi_hash", {"num_hashes": 2}),
    "10 hashes": ("multi_hash", {"num_hashes": 10}),
    "tensor train": ("tensor_train", {}),
    "Tucker": ("tucker", {}),
    "low rank": ("low_rank", {}),
}
LIMIT = "bare products"


def bare_products(method: methods.Method):
    """W = U V, and both of its transposes: what no way of generating SMH's weights can avoid."""

    def forward(u, v):
        return u @ v

    def forward_backward(u, v, gradient):
        return u @ v, gradient @ v.T, u.T @ gradient

    pools = method.init_pools(jax.random.key(0))
    u, v = pools["u"], pools["v"]
    gradient = jax.random.normal(jax.random.key(1), (u.shape[0], v.shape[1]))
    return (
        jax.jit(forward).lower(u, v).compile(),
        (u, v),
        jax.jit(forward_backward).lower(u, v, gradient).compile(),
        (u, v, gradient),
    )


def passes(method: methods.Method):
    """Compiled forward and forward + backward passes of a method, each with its arguments."""

    def forward_backward(variables, gradient):
        params, backward = jax.vjp(method.materialize, variables)
        return params, backward(gradient)

    variables = method.init(jax.random.key(0))
    shapes = jax.eval_shape(method.materialize, variables)
    gradient = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3, x.dtype), shapes)
    return (
        jax.jit(method.materialize).lower(variables).compile(),
        (variables,),
        jax.jit(forward_backward).lower(variables, gradient).compile(),
        (variables, gradient),
    )


def measure(model_name: str, target_size: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of the table for one model and target size."""
    model = models.create(model_name, num_classes=1000)
    manifest = Manifest.from_model(model, (1, 224, 224, 3))
    made = {}
    for label, (name, options) in METHODS.items():
        made[label] = methods.create(name, manifest, target_size=target_size, **options)
    programs = {LIMIT: bare_products(made["smh"])}
    programs |= {label: passes(method) for label, method in made.items()}
    timed = {}
    for direction, at in (("forward", 0), ("forward_backward", 2)):
        candidates = {
            label: functools.partial(program[at], *program[at + 1])
            for label, program in programs.items()
        }
        timed[direction] = timing.interleaved(candidates, repeats)
    rows = []
    for label, (forward, _, both, _) in programs.items():
        row: dict[str, Any] = {
            "model": model_name,
            "target_size": target_size,
            "method": label,
            "num_variables": made[label].num_variables if label in made else None,
        }
        for direction, program in (("forward", forward), ("forward_backward", both)):
            seconds = timed[direction]
            row[f"{direction}_seconds"] = statistics.median(seconds[label])
            row[f"{direction}_ratio"] = timing.median_ratio(seconds[label], seconds[LIMIT])
            memory = program.memory_analysis()
            row[f"{direction}_temporary_bytes"] = memory.temp_size_in_bytes
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of the rows."""
    lines = [
        "| model | target | method | forward, ms | x products | forward + backward, ms "
        "| x products | temporary MiB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['target_size'] / 1e6:.1f}M | {row['method']} "
            f"| {1e3 * row['forward_seconds']:.0f} | {row['forward_ratio']:.2f} "
            f"| {1e3 * row['forward_backward_seconds']:.0f} "
            f"| {row['forward_backward_ratio']:.2f} "
            f"| {row['forward_backward_temporary_bytes'] / 2**20:.0f} |"
        )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures, writes and prints."""
    rows = []
    for entry in MODELS.value:
        name, _, target_size = entry.partition(":")
        rows += measure(name, int(target_size), REPEATS.value)
        print(f"{name} is measured", flush=True)
    content = {"machine": timing.machine(), "repeats": REPEATS.value, "rows": rows}
    output = pathlib.Path(OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    app.run(main)
