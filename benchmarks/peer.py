"""Generated weights against dense ones, here and in PyTorch as FeatherMap generates them."""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import other_process, steps, timing
from benchmarks.benchmark import Row
from smh_jax import cli, methods
from smh_jax.shipping import on_the_fly

DENSE = "dense"


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'what:model:side:batch:percent'; what is 'training' or 'inference'.

    Both frameworks take turns, PyTorch in another process, and each is compared with its own dense
    step: in processor time of all threads, from which other work of the machine takes nothing, and
    by the clock. The target size of SMH is the number of variables that FeatherMap has at so many
    percent.

    Raises:
        ValueError: if PyTorch is missing; the message says how to install it.
    """
    for module in ("torch", "torchvision"):
        cli.require(module, "peer")
    what, model_name, *numbers = case.split(":")
    side, batch_size, _ = map(int, numbers)
    with other_process.started("benchmarks.feathermap", case) as (facts, call):
        ours, num_variables = _candidates(
            what, model_name, side, batch_size, facts["num_variables"]
        )
        measures = {
            ("JAX", name): functools.partial(_seconds, program) for name, program in ours.items()
        }
        measures |= {
            ("PyTorch", name): functools.partial(call, name) for name in facts["candidates"]
        }
        # Once before anything is counted.
        timing.in_turn(measures, 1)
        seconds = timing.in_turn(measures, repeats)
    variables = {"JAX": num_variables, "PyTorch": facts["num_variables"]}
    rows = []
    for (framework, method), times in seconds.items():
        reference = seconds[framework, DENSE]
        ratios = [a.processor / b.processor for a, b in zip(times, reference, strict=True)]
        clock = [a.clock / b.clock for a, b in zip(times, reference, strict=True)]
        rows.append(
            {
                "what": {"training": "training step"}.get(what, what),
                "model": model_name,
                "side": side,
                "batch_size": batch_size,
                "framework": framework,
                "method": method,
                "num_variables": None if method == DENSE else variables[framework],
                "milliseconds": 1e3 * statistics.median(each.processor for each in times),
                "ratio": statistics.median(ratios),
                "ratio_quartiles": timing.quartiles(ratios, ".2f"),
                "clock_ratio": statistics.median(clock),
                "clock_quartiles": timing.quartiles(clock, ".2f"),
                "torch": facts["torch"],
            }
        )
    return rows


def _seconds(program: Callable[[], Any]) -> other_process.Seconds:
    return other_process.seconds_of(lambda: jax.block_until_ready(program()))


def _candidates(
    what: str, model_name: str, side: int, batch_size: int, target_size: int
) -> tuple[dict[str, Callable[[], Any]], int]:
    """What is timed here, by name, and the number of variables that SMH trains."""
    model, manifest = steps.create(model_name, side)
    smh = methods.create("smh", manifest, target_size=target_size)
    batch = steps.batch_of(model_name, side, batch_size)
    if what == "training":
        compared = {DENSE: methods.create("dense", manifest), "smh": smh}
        trainings = {
            name: steps.Training(*steps.initial_state_and_step(model, method, side), batch)
            for name, method in compared.items()
        }
        return trainings, smh.num_variables
    images = batch["image"].reshape(batch_size, side, side, 3)
    state = dict(jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), images))
    params = state.pop("params")
    variables = smh.init(jax.random.key(2), params)

    def dense(params, state, images):
        return model.apply({"params": params, **state}, images, train=False)

    def at_once(variables, state, images):
        return dense(smh.materialize(variables), state, images)

    predict = on_the_fly.predict(model, smh)
    return {
        DENSE: timing.compiled(dense, params, state, images),
        "smh, all at once": timing.compiled(at_once, variables, state, images),
        "smh, on the fly": timing.compiled(predict, variables, state, images),
    }, smh.num_variables
