"""Generated weights against dense ones, here and in PyTorch as FeatherMap generates them."""

import contextlib
import functools
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks import steps, timing
from benchmarks.benchmark import Row
from smh_jax import cli, methods
from smh_jax.shipping import on_the_fly

DENSE = "dense"


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'what:model:side:batch:percent'; what is 'training' or 'inference'.

    Both frameworks take turns, PyTorch in another process, and each is compared with its own dense
    step. The target size of SMH is the number of variables that FeatherMap has at so many percent.

    Raises:
        ValueError: if PyTorch is missing; the message says how to install it.
    """
    for module in ("torch", "torchvision"):
        cli.require(module, "peer")
    what, model_name, *numbers = case.split(":")
    side, batch_size, _ = map(int, numbers)
    with _pytorch(case) as (facts, call):
        ours, num_variables = _candidates(
            what, model_name, side, batch_size, facts["num_variables"]
        )
        programs: dict[tuple[str, str], Callable[[], Any]] = {
            **{("JAX", method): program for method, program in ours.items()},
            **{("PyTorch", name): functools.partial(call, name) for name in facts["candidates"]},
        }
        seconds = timing.interleaved(programs, repeats)
    variables = {"JAX": num_variables, "PyTorch": facts["num_variables"]}
    rows = []
    for (framework, method), times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[framework, DENSE], strict=True)]
        rows.append(
            {
                "what": {"training": "training step"}.get(what, what),
                "model": model_name,
                "side": side,
                "batch_size": batch_size,
                "framework": framework,
                "method": method,
                "num_variables": None if method == DENSE else variables[framework],
                "milliseconds": 1e3 * statistics.median(times),
                "milliseconds_quartiles": _quartiles([1e3 * each for each in times], ".0f"),
                "ratio": statistics.median(ratios),
                "ratio_quartiles": _quartiles(ratios, ".2f"),
                "torch": facts["torch"],
            }
        )
    return rows


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


@contextlib.contextmanager
def _pytorch(case: str) -> Iterator[tuple[dict[str, Any], Callable[[str], None]]]:
    """What PyTorch's process says of itself, and a function that calls one of its candidates."""
    command = [sys.executable, "-m", "benchmarks.feathermap", case]
    root = pathlib.Path(__file__).parents[1]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True) as process:

        def answer() -> str:
            if not (line := process.stdout.readline()):
                raise RuntimeError(f"{' '.join(command)} has ended with {process.wait()}")
            return line

        def call(name: str) -> None:
            print(name, file=process.stdin, flush=True)
            answer()

        # The process ends with its input.
        yield json.loads(answer()), call


def _quartiles(values: list[float], form: str) -> str:
    """The first and the last, in words."""
    if len(values) == 1:
        return ""
    first, _, last = statistics.quantiles(values, n=4)
    return f"{first:{form}} to {last:{form}}"
