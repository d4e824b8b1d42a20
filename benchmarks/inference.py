"""Inference of one image: all weights at hand against weights generated on the fly."""

import statistics

import jax
import jax.numpy as jnp

from benchmarks import steps, timing
from benchmarks.benchmark import Benchmark, Curves, Row
from smh_jax import methods
from smh_jax.shipping import on_the_fly

UNPACKED = "unpacked"


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:target_size:blocks,blocks,...'."""
    model_name, side, target_size, blocks = case.split(":")
    side, target_size = int(side), int(target_size)
    model, manifest = steps.create(model_name, side)
    image = jax.random.normal(jax.random.key(0), (1, side, side, 3))

    def init(key):
        return model.init(key, image, train=False)

    state = dict(jax.jit(init)(jax.random.key(1)))
    params = state.pop("params")

    def unpacked(params, state, image):
        return model.apply({"params": params, **state}, image, train=False)

    programs = {UNPACKED: timing.compiled(unpacked, params, state, image)}
    products = {}
    for count in map(int, blocks.split(",")):
        method = methods.create("smh", manifest, target_size=target_size, blocks=count)
        label = _label(count)
        variables = method.init(jax.random.key(2), params)
        predict = on_the_fly.predict(model, method)
        programs[label] = timing.compiled(predict, variables, state, image)
        pools = variables["pools"]
        products[label] = timing.compiled(jnp.matmul, pools["u"], pools["v"])
    candidates = {label: program.call for label, program in programs.items()}
    candidates |= {f"{label} products": program.call for label, program in products.items()}
    seconds = timing.interleaved(candidates, repeats)
    rows = []
    for label, program in programs.items():
        row: Row = {
            "model": model_name,
            "target_size": target_size,
            "compression": manifest.num_weights / target_size,
            "method": label,
            "milliseconds": 1e3 * statistics.median(seconds[label]),
            "ratio": timing.median_ratio(seconds[label], seconds[UNPACKED]),
            "argument_mib": program.argument_bytes / 2**20,
            "temporary_mib": program.temporary_bytes / 2**20,
        }
        row["memory_ratio"] = (program.argument_bytes + program.temporary_bytes) / (
            programs[UNPACKED].argument_bytes + programs[UNPACKED].temporary_bytes
        )
        if label in products:
            bare = seconds[f"{label} products"]
            row["products_milliseconds"] = 1e3 * statistics.median(bare)
            both = [a + b for a, b in zip(seconds[UNPACKED], bare, strict=True)]
            row["ratio_to_limit"] = timing.median_ratio(seconds[label], both)
        rows.append(row)
    return rows


def _label(blocks: int) -> str:
    return "on the fly" if blocks == 1 else f"on the fly, {blocks} blocks"


BENCHMARK = Benchmark(
    name="inference",
    question="What does it cost not to hold the weights, for one image?",
    cases=(
        *(f"resnet50:224:{size}:1,16,64" for size in (638926, 1277852, 2555703, 6389258)),
        *(f"efficientnet_b4:380:{size}:1,16" for size in (2000000, 5000000, 9300000)),
    ),
    small_cases=("cifar_resnet8:8:20000:1,4",),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("target_size", "target", ","),
        ("method", "form", ""),
        ("milliseconds", "ms", ".0f"),
        ("ratio", "x unpacked", ".2f"),
        ("products_milliseconds", "bare products, ms", ".0f"),
        ("ratio_to_limit", "x (unpacked + products)", ".2f"),
        ("argument_mib", "arguments, MiB", ".1f"),
        ("temporary_mib", "temporaries, MiB", ".1f"),
        ("memory_ratio", "memory x unpacked", ".2f"),
    ),
    plot=Curves(
        x="compression",
        x_label="compression: weights / variables",
        measures=(
            ("{model}: latency", "ratio", "multiples of the unpacked form"),
            ("{model}: memory", "memory_ratio", "multiples of the unpacked form"),
        ),
        line=1.0,
        log=True,
    ),
)
