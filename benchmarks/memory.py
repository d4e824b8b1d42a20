"""Memory by XLA's own analysis, and what is kept: optimizer state and checkpoint."""

import jax
import jax.numpy as jnp

from benchmarks import steps
from benchmarks.benchmark import Benchmark, Row
from smh_jax import methods
from smh_jax.shipping import on_the_fly
from smh_jax.training import parallel


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:target_size'; nothing is run."""
    del repeats
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
        training = _peak(step.lower(parallel.replicate(state), _one_device(batch)))
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        if label == "dense":

            def predict(variables, model_state, image, method=method):
                params = method.materialize(variables)
                return model.apply({"params": params, **model_state}, image, train=False)

        else:
            predict = on_the_fly.predict(model, method)
        inference = _peak(jax.jit(predict).lower(state.variables, state.model_state, image))
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
        for name, analysed in (("training", training), ("inference", inference)):
            row |= {f"{name}_{key}_mib": value / 2**20 for key, value in analysed.items()}
        rows.append(row)
    return rows


def _one_device(batch):
    (batch,) = parallel.to_devices([batch])
    return batch


def _peak(lowered) -> dict[str, int]:
    # What LLVM makes of each kernel changes no buffer.
    memory = lowered.compile({"xla_backend_optimization_level": 0}).memory_analysis()
    sizes = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }
    return sizes | {"peak": sum(sizes.values())}


BENCHMARK = Benchmark(
    name="memory",
    question="How much memory do training and inference take, and how large is what is kept?",
    cases=(
        "cifar_resnet32:32:128:46415",
        "efficientnet_b0:224:16:3000000",
        "efficientnet_b2:260:16:5300000",
        "resnet50:224:16:2555703",
    ),
    small_cases=("cifar_resnet8:8:4:20000",),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("batch_size", "batch", "d"),
        ("method", "method", ""),
        ("variables_mib", "variables, MiB", ".1f"),
        ("optimizer_mib", "optimizer state", ".1f"),
        ("checkpoint_mib", "checkpoint", ".1f"),
        ("training_arguments_mib", "training: arguments", ".0f"),
        ("training_temporaries_mib", "temporaries", ".0f"),
        ("inference_arguments_mib", "inference at batch 1: arguments", ".1f"),
        ("inference_temporaries_mib", "temporaries", ".1f"),
    ),
)
