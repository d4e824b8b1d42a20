"""Serving several models on the fly: from one pair of pools against a pair for each."""

import functools
import statistics

import jax

from benchmarks import steps, timing
from benchmarks.benchmark import Row
from smh_jax import Manifest, methods
from smh_jax.methods import Method, Variables, shared
from smh_jax.shipping import on_the_fly


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:target_size:count': so many models of that size on average.

    What is kept of all models are their variables, of which shared pools are there once; what a
    call takes besides are the temporaries of one model.
    """
    model_name, *numbers = case.split(":")
    side, target_size, count = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    image = jax.random.normal(jax.random.key(0), (1, side, side, 3))
    init = jax.jit(functools.partial(model.init, train=False))
    state = dict(init(jax.random.key(1), image))
    params = state.pop("params")
    names = [f"model{index}" for index in range(count)]
    joint = methods.create(
        "smh",
        Manifest.joined(dict.fromkeys(names, manifest)),
        target_size=count * target_size,
    )
    variables = joint.init(jax.random.key(2), dict.fromkeys(names, params))
    members: dict[str, tuple[Method, Variables]] = {
        name: (shared.member(joint, name), shared.of_member(joint, name, variables))
        for name in names
    }
    own = methods.create("smh", manifest, target_size=target_size)
    served = {
        "one pool": list(members.values()),
        "the same models, each cut out": [shared.alone(*member) for member in members.values()],
        "a pool for each": [(own, own.init(jax.random.key(2), params))] * count,
    }
    programs = {
        label: timing.compiled(
            on_the_fly.predict(model, models[-1][0]), models[-1][1], state, image
        )
        for label, models in served.items()
    }
    seconds = timing.interleaved(programs, repeats)
    rows = []
    for label, models in served.items():
        kept = [variables for _, variables in models]
        if label == "one pool":
            kept = [kept[0]["pools"], *({**each, "pools": {}} for each in kept)]
        _, temporary_mib = timing.memory_mib(programs[label].executable)
        method = models[-1][0]
        row: Row = {
            "model": model_name,
            "count": count,
            "method": label,
            "num_hash_pairs": method.num_hash_pairs,
            "variables_mib": sum(map(steps.tree_bytes, kept)) / 2**20,
            "temporary_mib": temporary_mib,
            "milliseconds": 1e3 * statistics.median(seconds[label]),
            "ratio": timing.median_ratio(seconds[label], seconds["a pool for each"]),
        }
        rows.append(row)
    return rows
