"""What training keeps and sends scales with the variables, not with the weights."""

import json

import pytest

CODE = """
import json
import jax
from benchmarks import scaling, steps
from smh_jax import methods
from smh_jax.training import parallel

model, manifest = steps.create("cifar_resnet8", 8)
batch = steps.batch_of("cifar_resnet8", 8, 4)
sizes = {}
for name, target_size in (("dense", None), ("smh", manifest.num_weights // 10)):
    method = methods.create(name, manifest, target_size=target_size)
    state, step = steps.initial_state_and_step(model, method, 8)
    lowered = step.lower(parallel.backend().replicate(state), batch)
    compiled = lowered.compile()
    gradient = jax.eval_shape(jax.grad(lambda v: sum(
        x.sum() for x in jax.tree.leaves(method.materialize(v)))), state.variables)
    sizes[name] = {
        "variables": steps.tree_bytes(state.variables),
        "optimizer state": steps.tree_bytes(state.opt_state),
        "gradients": steps.tree_bytes(gradient),
        "all-reduced": scaling.all_reduced_bytes(compiled.as_text()),
    }
print(json.dumps(sizes))
"""


@pytest.mark.slow
def test_bytes_scale_with_the_variables(run_python):
    sizes = json.loads(run_python("-c", CODE, devices=2).stdout.splitlines()[-1])
    dense, smh = sizes["dense"], sizes["smh"]
    assert dense["variables"] == 4 * 75_290
    # All gradients and little else is all-reduced: batch statistics and metrics.
    for name in ("dense", "smh"):
        extra = sizes[name]["all-reduced"] - sizes[name]["gradients"]
        assert 0 < extra < 4_500
    for what, size in smh.items():
        assert 0.09 * dense[what] < size <= 0.12 * dense[what], what
