"""What the tests of numbers share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Programs whose numbers are tested are compiled as users' are; `conftest` turns most of XLA's
# optimizations off for the others.
optimized_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})


def as_float64(tree):
    """The same values as NumPy arrays of twice the precision."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def random_like(tree, seed=0, mean=0.0, stddev=1.0):
    """Normal values in place of all leaves, as after training; no program is compiled for them."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (mean + stddev * random.normal(size=x.shape)).astype(x.dtype), tree
    )


def check_derivatives(method, manifest, seed=0):
    """Compares both modes of differentiation of a method's weights with finite differences.

    In float64, and through a function that weights each output differently, so that no two of them
    could be exchanged.
    """
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        variables = jax.eval_shape(method.init, jax.random.key(0))
        variables, direction = (
            jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), variables)
            for _ in range(2)
        )
        weights = {t.name: random.normal(size=t.shape) for t in manifest.tensors}

        def loss(variables):
            leaves = manifest.leaves(method.materialize(variables))
            return sum(jnp.sum(weights[name] * leaves[name] ** 2) for name in weights)

        def moved(variables, direction, distance):
            return jax.tree.map(lambda x, d: x + distance * d, variables, direction)

        @optimized_jit
        def slopes(variables, direction):
            _, forward = jax.jvp(loss, (variables,), (direction,))
            gradient = jax.grad(loss)(variables)
            backward = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
            ahead, behind = (loss(moved(variables, direction, t)) for t in (1e-5, -1e-5))
            return forward, backward, (ahead - behind) / 2e-5

        forward, backward, expected = map(float, slopes(variables, direction))
    np.testing.assert_allclose([forward, backward], expected, rtol=1e-6)
