"""Memory by XLA's own analysis, and what is kept: optimizer state and checkpoint."""

import functools

import jax
import jax.numpy as jnp

from benchmarks import steps, timing
from benchmarks.benchmark import Row
from smh_jax import methods
from smh_jax.shipping import on_the_fly
from smh_jax.training import parallel


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:target_size'; nothing is run."""
    model_name, *numbers = case.split(":")
    side, batch_size, target_size = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    batch = steps.batch_of(model_name, side, batch_size)
    rows = []
    for label, method in (
        ("dense", methods.create("dense", manifest)),
        ("smh", methods.create("smh", manifest, target_size=target_size)),
        ("smh, 4 blocks", methods.create("smh", manifest, target_size=target_size, blocks=4)),
    ):
        state, step = steps.initial_state_and_step(model, method, side)
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        predict = on_the_fly.predict(model, method)
        if label == "dense":
            predict = functools.partial(_predict, model, method)
        lowered = {
            "training": step.lower(parallel.backend().replicate(state), batch),
            "inference": jax.jit(predict).lower(state.variables, state.model_state, image),
        }
        row: Row = {
            "model": model_name,
            "batch_size": batch_size,
            "method": label,
            "num_variables": method.num_variables,
            "variables_mib": steps.tree_bytes(state.variables) / 2**20,
            "optimizer_mib": steps.tree_bytes(state.opt_state) / 2**20,
            # What a checkpoint holds before it is packed.
            "checkpoint_mib": steps.tree_bytes(state) / 2**20,
        }
        for name, program in lowered.items():
            # What LLVM makes of each kernel changes no buffer.
            compiled = program.compile({"xla_backend_optimization_level": 0})
            arguments, temporaries = timing.memory_mib(compiled)
            row[f"{name}_arguments_mib"], row[f"{name}_temporaries_mib"] = arguments, temporaries
            row[f"{name}_peak_mib"] = arguments + temporaries
        rows.append(row)
    return rows


def _predict(model, method, variables, model_state, image):
    params = method.materialize(variables)
    return model.apply({"params": params, **model_state}, image, train=False)
