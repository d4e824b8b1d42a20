"""One call that compresses any Flax model, Linen or NNX."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from smh_jax import methods
from smh_jax.manifest import Manifest
from smh_jax.training.compressed import Compressed
from smh_jax.training.forward import Call


def compress(
    model: Any,
    *example_args: Any,
    target_size: int | None = None,
    method: str = "smh",
    hashed: str = "all",
    example_kwargs: Mapping[str, Any] | None = None,
    key: jax.Array | None = None,
    **options: Any,
) -> Any:
    """The model with its weights generated from fewer variables, to be trained in its place.

    Args:
        model: a Flax Linen module, or an NNX module, which stays as it is.
        *example_args: with which a Linen module can be called: arrays, `jax.ShapeDtypeStruct`s, or
            anything else, which is passed on as it is. An NNX module needs them only to be
            exported.
        target_size: upper bound on all trainable variables; None for method 'dense'.
        method: one of `smh_jax.methods.names()`.
        hashed: which tensors are generated; see `Manifest.from_model`.
        example_kwargs: keyword arguments of the example call, such as {'train': False}.
        key: of the variables of an NNX module, `jax.random.key(0)` if None; those of a Linen module
            are drawn by its `init`.
        **options: of the method.

    Returns:
        A `Compressed`, or for an NNX module an NNX module whose `nnx.Param`s are the variables.

    Raises:
        ValueError: if the model has no trainable tensor, or for a choice that is impossible.
    """
    kwargs = dict(example_kwargs or {})
    for argument in example_args:
        if isinstance(argument, tuple) and argument and all(type(n) is int for n in argument):
            raise ValueError(
                f"the example argument {argument} must be an array or its shape and dtype, such as "
                f"jax.ShapeDtypeStruct({argument}, jnp.float32)"
            )
    manifest = Manifest.from_model(model, *example_args, hashed=hashed, example_kwargs=kwargs)
    chosen = methods.create(method, manifest, target_size=target_size, **options)
    if isinstance(model, nn.Module):
        return Compressed(model, chosen, Call.of(*example_args, **kwargs))
    # Who has an NNX module has imported NNX, and nobody else needs to.
    from smh_jax.training import compressed_nnx

    key = jax.random.key(0) if key is None else key
    call = Call.of(*example_args, **kwargs) if example_args or kwargs else None
    return compressed_nnx.Compressed(model, chosen, key, call)
