"""The product's own gradient against the formula, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, methods
from smh_jax.methods.base import PooledMethod
from smh_jax.methods.scaled_product import scaled_product
from tests.small import TwoLayers


@pytest.mark.parametrize(
    ("sizes", "zeros"),
    [
        ((77,), ()),  # all of it
        ((1, 2, 3), ()),  # in one row
        ((22, 11, 33), ()),  # whole rows only
        ((5, 40, 3, 1, 20), ()),  # rows shared by several vectors at their ends
        ((5, 40, 3, 1, 20), (0, 1, 4)),  # scales of 0 still have a gradient
        ((10, 12, 10), (1,)),  # a vector longer than a row that fills none
    ],
)
def test_gradient(sizes, zeros):
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(7, 4)), rng.normal(size=(4, 11))
    scales = rng.normal(size=len(sizes))
    scales[list(zeros)] = 0
    gradients = [rng.normal(size=size) for size in sizes]

    factors = np.concatenate([np.repeat(scales, sizes), np.zeros(77 - sum(sizes))])
    gradient = np.concatenate([*gradients, np.zeros(77 - sum(sizes))])
    matrix = (factors * gradient).reshape(7, 11)
    ends = np.cumsum([0, *sizes])
    flat = (u @ v).ravel()
    expected = (
        matrix @ v.T,
        u.T @ matrix,
        [np.dot(g, flat[a:b]) for g, a, b in zip(gradients, ends, ends[1:], strict=False)],
    )

    def function(u, v, scales):
        return scaled_product("highest", sizes, u, v, scales)

    @jax.jit
    def both(arguments, gradients):
        weights, backward = jax.vjp(function, *arguments)
        return weights, backward(gradients)

    arguments, gradients = jax.tree.map(jnp.float32, ((u, v, scales), gradients))
    weights, found = both(arguments, gradients)
    for weight, a, b, scale in zip(weights, ends, ends[1:], scales, strict=False):
        np.testing.assert_allclose(weight, flat[a:b] * scale, rtol=1e-5, atol=1e-5)
    for name, one, other in zip("uvs", found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5, err_msg=name)


def test_it_is_what_smh_materializes():
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1))
    method = methods.create("smh", manifest, target_size=300)
    variables = method.init(jax.random.key(0))
    variables["scales"] = jnp.linspace(-1, 2, variables["scales"].size)
    assert "custom_vjp_call" in str(jax.make_jaxpr(method.materialize)(variables))
    plain = PooledMethod.materialize(method, variables)
    shapes = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), plain)
    found = jax.vjp(method.materialize, variables)[1](shapes)
    expected = jax.vjp(lambda v: PooledMethod.materialize(method, v), variables)[1](shapes)
    made = method.materialize(variables)
    for one, other in zip(
        jax.tree.leaves((made, found)), jax.tree.leaves((plain, expected)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())
