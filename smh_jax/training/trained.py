"""What a run has learned, read from its folder: to start from, to learn from, to look at."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging

from smh_jax import methods
from smh_jax.config import Config
from smh_jax.manifest import Params
from smh_jax.methods import Variables
from smh_jax.training import adapted, elastic
from smh_jax.training.checkpoint import Checkpoints, named_leaves
from smh_jax.training.forward import ModelState
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """The latest checkpoint of a run, of an elastic one at one of its sizes.

    Attributes:
        run: what the run's configuration stands for, on one device; of an elastic run with the
            method of the size alone.
        step: of the checkpoint.
        variables: of the method; the averages, where the run is evaluated with averages.
        model_state: the model's other collections (batch statistics), likewise.
        pulled: variables of `run.pull`, where the run has one.
    """

    run: Run
    step: int
    variables: Variables
    model_state: ModelState
    pulled: Variables | None = None

    @property
    def config(self) -> Config:
        """Of the run, less what concerns several devices."""
        return self.run.config

    @property
    def params(self) -> Params:
        """All weights that the method makes; of an adapted model, what is added to frozen ones."""
        return jax.jit(self.run.method.materialize)(self.variables)

    @property
    def collections(self) -> dict[str, Any]:
        """Of the base model, with which the run is evaluated: its plain weights and the others."""
        params, model_state = adapted.merged({"params": self.params, **self.model_state})
        return {"params": params, **model_state}


def read(workdir: str | os.PathLike[str], size: float | None = None) -> Trained:
    """The latest state of a run.

    Args:
        workdir: folder of the run.
        size: of an elastic run, as a number of variables or a share of all weights; None for the
            largest.

    Raises:
        ValueError: if the folder holds no run, one without a checkpoint or one without this size.
    """
    run, folder = Run.in_folder(workdir), Workdir(workdir).path
    is_elastic = isinstance(run.method, methods.Elastic)
    if size is not None and not is_elastic:
        raise ValueError(f"size={size:g}: {workdir} is of one size, not elastic (elastic.sizes)")
    if is_elastic:
        index = run.method.index if size is None else run.method.index_of(size)
    if not Checkpoints.any_in(folder):
        raise ValueError(f"workdir={workdir} has no checkpoint: train it first")
    with Checkpoints(folder, run.config.keep_checkpoints) as checkpoints:
        state = checkpoints.read()
    averages = state.get("ema")
    evaluated = state if averages is None else averages
    variables = _restructured(evaluated["variables"], run.method.abstract_variables)
    if "frozen" in variables:
        # Averages of what never changes are not exact.
        last = _restructured(state["variables"], run.method.abstract_variables)
        variables["frozen"] = last["frozen"]
    logging.info("%s: step %d, method %s", workdir, state["step"], run.method.name)
    pulled = None
    if run.pull is not None:
        pulled = _restructured(state["opt_state"]["variables"], run.pull.abstract_variables)
    model_state = evaluated.get("model_state") or {}
    if is_elastic:
        method, variables = run.method.cut(index, variables)
        run = dataclasses.replace(run, method=method)
        model_state = elastic.state_of_size(model_state, index)
    return Trained(run, int(state["step"]), variables, model_state, pulled)


def _restructured(saved: Any, like: Any) -> Any:
    """A checkpoint's tree, in which tuples have become lists, in its structure and dtypes.

    Raises:
        ValueError: if it has leaves of other names or shapes.
    """
    leaves, wanted = named_leaves(saved), named_leaves(like)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    for name in sorted(shapes.keys() | wanted.keys()):
        there, here = shapes.get(name), wanted[name].shape if name in wanted else None
        if there != here:
            raise ValueError(
                "the checkpoint has other variables than the run's configuration: "
                f"{name} is {there or 'absent'} there, {here or 'absent'} here"
            )
    ordered = [leaves[name].astype(leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), ordered)


@contextlib.contextmanager
def named(field: str) -> Iterator[None]:
    """Puts the field that named a run before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def load_initial(config: Config) -> Trained | None:
    """The run of `config.init_from`, or None.

    Raises:
        ValueError: unless it has the model and the method of the configuration.
    """
    if config.init_from is None:
        return None
    with named(f"init_from={config.init_from}"):
        source = read(config.init_from)
    if source.config.frozen_from is not None:
        raise ValueError(
            f"init_from={config.init_from} is a run with frozen weights; "
            "python -m smh_jax.convert --merge makes plain ones of them"
        )
    model, method = source.config.model, source.config.method
    ours, theirs = (
        {"model.name": m.name, "method.name": k.name, "method.hashed": k.hashed}
        for m, k in ((config.model, config.method), (model, method))
    )
    wrong = [f"{n}: {theirs[n]!r} there, {ours[n]!r} here" for n in ours if theirs[n] != ours[n]]
    if not wrong:
        with named(f"with the weights of init_from={config.init_from}"):
            ours_method = Run.from_config(config, source.run.method.manifest).method
        if methods.innermost(source.run.method) != methods.innermost(ours_method):
            wrong = [f"method: {method} there, {config.method} here"]
    if wrong:
        hint = "; python -m smh_jax.convert makes one" if method.name == "dense" else ""
        raise ValueError(
            f"init_from={config.init_from} must be a run of the same model and method "
            f"({'; '.join(wrong)}){hint}"
        )
    return source


def load_frozen(config: Config, run: Run) -> ModelState | None:
    """The state of the adapted model that starts from the run of `config.frozen_from`, or None.

    Raises:
        ValueError: unless that is a trained run of the same model.
    """
    if config.frozen_from is None:
        return None
    with named(f"frozen_from={config.frozen_from}"):
        source = read(config.frozen_from)
    if not source.run.method.manifest.same_tensors(run.method.manifest):
        raise ValueError(
            f"frozen_from={config.frozen_from} must be a run of the same model: "
            f"model.name={source.config.model.name!r} there has other tensors than "
            f"{config.model.name!r} here"
        )
    collections = dict(source.collections)
    return {adapted.COLLECTION: collections.pop("params"), **collections}


def load_pools(config: Config) -> Variables | None:
    """The pools of the run of `config.pool_from`, or None.

    Raises:
        ValueError: unless that is a trained run.
    """
    if config.pool_from is None:
        return None
    with named(f"pool_from={config.pool_from}"):
        source = read(config.pool_from)
    return source.run.method.exported(source.variables)["pools"]
