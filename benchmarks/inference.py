"""Inference of one image: all weights at hand against weights generated on the fly."""

import functools
import statistics

import jax
import jax.numpy as jnp

from benchmarks import steps, timing
from benchmarks.benchmark import Row
from smh_jax import methods
from smh_jax.shipping import on_the_fly

UNPACKED = "unpacked"


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:target_size:blocks,blocks,...'."""
    model_name, side, target_size, blocks = case.split(":")
    side, target_size = int(side), int(target_size)
    model, manifest = steps.create(model_name, side)
    image = jax.random.normal(jax.random.key(0), (1, side, side, 3))
    state = dict(jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), image))
    params = state.pop("params")

    def unpacked(params, state, image):
        return model.apply({"params": params, **state}, image, train=False)

    programs = {UNPACKED: timing.compiled(unpacked, params, state, image)}
    for count in map(int, blocks.split(",")):
        label = "on the fly" if count == 1 else f"on the fly, {count} blocks"
        method = methods.create("smh", manifest, target_size=target_size, blocks=count)
        variables = method.init(jax.random.key(2), params)
        predict = on_the_fly.predict(model, method)
        programs[label] = timing.compiled(predict, variables, state, image)
        pools = variables["pools"]
        programs[f"{label} products"] = timing.compiled(jnp.matmul, pools["u"], pools["v"])
    seconds = timing.interleaved(programs, repeats)
    unpacked_mib = sum(timing.memory_mib(programs[UNPACKED].executable))
    rows = []
    for label in (label for label in programs if not label.endswith("products")):
        argument_mib, temporary_mib = timing.memory_mib(programs[label].executable)
        row: Row = {
            "model": model_name,
            "target_size": target_size,
            "compression": manifest.num_weights / target_size,
            "method": label,
            "milliseconds": 1e3 * statistics.median(seconds[label]),
            "ratio": timing.median_ratio(seconds[label], seconds[UNPACKED]),
            "argument_mib": argument_mib,
            "temporary_mib": temporary_mib,
            "memory_ratio": (argument_mib + temporary_mib) / unpacked_mib,
        }
        if bare := seconds.get(f"{label} products"):
            row["products_milliseconds"] = 1e3 * statistics.median(bare)
            both = [a + b for a, b in zip(seconds[UNPACKED], bare, strict=True)]
            row["ratio_to_limit"] = timing.median_ratio(seconds[label], both)
        rows.append(row)
    return rows
