"""What a file will have in bytes, and budgets in bytes."""

import dataclasses

import jax
import pytest

from smh_jax import methods
from smh_jax.methods.file_size import expected_bytes
from smh_jax.shipping import artifact, from_run
from smh_jax.training.run import Run
from tests import artifacts
from tests.small import digits_config


@pytest.mark.parametrize("precision", ["float32", "int8", "int4", "int2", "ternary", "coded:0.25"])
def test_the_file_is_hardly_smaller_than_expected(precision):
    # Its pools are drawn from normal distributions, those of the most bits.
    made = artifacts.make(width=1.0, share=0.2)
    pools = made.method.init(jax.random.key(0))["pools"]
    made = dataclasses.replace(made, stored={**made.stored, "pools": pools})
    size = len(artifact.encode(made.at(precision)))
    expected = expected_bytes(made.method, made.model_state, precision)
    assert size <= expected < size + 1000


def budget(digits_dir, target_bytes, **changes):
    config = digits_config(digits_dir, method__target_bytes=target_bytes, **changes)
    return Run.from_config(config, num_devices=1)


def test_a_budget_in_bytes_takes_as_many_variables_as_fit(digits_dir):
    runs = {size: budget(digits_dir, size) for size in (3_000, 3_500)}
    for size, run in runs.items():
        assert run.precision == "coded:0.25"
        assert isinstance(run.method, methods.Rounded)
        assert 0.97 * size < run.expected_bytes("coded:0.25") <= size
    assert runs[3_000].method.num_variables < runs[3_500].method.num_variables
    eight = budget(digits_dir, 3_500, pool_precision="int8")
    assert eight.precision == "int8"
    assert eight.method.num_variables < runs[3_500].method.num_variables


def test_budgets_that_cannot_be_met(digits_dir):
    with pytest.raises(ValueError, match=r"method.target_bytes=900 is too small .* has [\d,]+ "):
        budget(digits_dir, 900)
    dense = {"method__name": "dense", "method__target_size": None, "method__options": {}}
    with pytest.raises(ValueError, match="target_bytes=9000 must be None for method 'dense'"):
        budget(digits_dir, 9_000, **dense)


def test_an_exported_file_never_exceeds_its_budget():
    made = artifacts.make(width=1.0, share=0.2)
    run = {"model": {"name": "cifar_resnet8"}, "data": {"name": "digits"}, "optimizer": {}}
    full = len(artifact.encode(made.at("coded:0.25")))

    def at(target_bytes, **changes):
        method = {"name": "smh", "target_bytes": target_bytes}
        provenance = {"config": {**run, "method": method, **changes}}
        budgeted = dataclasses.replace(made, provenance=provenance)
        precision = from_run.precision_for(budgeted, None, compress=False)
        return precision, len(artifact.encode(budgeted.at(precision)))

    assert at(full + 500)[0] == "coded:0.25"
    precision, size = at(full - 200)
    assert artifact.parse(precision)[1] > 0.25
    assert full - 500 < size <= full - 200
    with pytest.raises(ValueError, match=r"above method.target_bytes=5000: choose another"):
        at(5_000, pool_precision="int8")
    # A file that was made so stays as it is.
    assert from_run.precision_for(made.at("int8"), None, compress=False) == "int8"
    budget = {"config": {**run, "method": {"name": "smh", "target_bytes": full}}}
    stored = dataclasses.replace(made.at("coded:0.3"), provenance=budget)
    assert from_run.precision_for(stored, None, compress=False) == "coded:0.3"
    assert from_run.precision_for(made, None, compress=False) == "float32"
    assert from_run.precision_for(made, "int4", compress=False) == "int4"
