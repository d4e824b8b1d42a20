"""Checkpoints of a run, by orbax: complete or absent, whenever the process ends."""

import math
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

import smh_jax
from smh_jax.config.errors import DivergedError, PeerError

_WRITTEN_BY = "smh_jax"
State = TypeVar("State")


class Checkpoints:
    """The checkpoints in a workdir; also a context manager that waits for the last one."""

    def __init__(self, workdir: epath.Path, keep: int) -> None:
        """Opens or creates `workdir/checkpoints`, which keeps the latest `keep` of them."""
        self.directory = (workdir / "checkpoints").resolve()
        self._manager = ocp.CheckpointManager(
            self.directory,
            # By name, so that the metadata can be read before anything was saved or restored.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "progress": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing waits for all processes: for ever, where one of them is gone.
        if kind is None or not issubclass(kind, PeerError):
            self._manager.close()

    @staticmethod
    def any_in(workdir: epath.Path) -> bool:
        """Whether there is a complete checkpoint; creates nothing."""
        directory = workdir / "checkpoints"
        return directory.exists() and bool(ocp.utils.checkpoint_steps(directory))

    @property
    def latest_step(self) -> int | None:
        """Step of the latest complete checkpoint, or None."""
        return self._manager.latest_step()

    def describe_latest(self) -> str:
        """Where the latest checkpoint lies, all of which is finite; waits until it is written."""
        self.wait()
        step = self.latest_step
        return "none was saved" if step is None else str(self.directory / str(step))

    def save(self, state: State, progress: dict[str, Any]) -> None:
        """Saves an unreplicated state and a JSON-able dict; writes in the background.

        Raises:
            DivergedError: if a number of the state is not finite; nothing is saved then.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(self.check_finite(state)),
                progress=ocp.args.JsonSave(progress | {_WRITTEN_BY: smh_jax.__version__}),
            ),
        )

    def check_finite(self, state: State) -> State:
        """The state as NumPy arrays, all of whose numbers are finite.

        Raises:
            DivergedError: if one is not; the message names it and the last good checkpoint.
        """
        state = jax.tree.map(np.asarray, state)
        for name, leaf in named_leaves(state).items():
            # The sum is finite where all is: float64 does not overflow on sums of float32.
            with np.errstate(invalid="ignore"):
                total = np.sum(leaf, dtype=np.float64)
            if not math.isfinite(total):
                raise DivergedError(
                    f"{name} is not finite after step {int(state.step)}; last good checkpoint: "
                    f"{self.describe_latest()}. A lower optimizer.learning_rate or "
                    "optimizer.clip_norm may help"
                )
        return state

    def wait(self) -> None:
        """Returns when what was saved is complete on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: State) -> tuple[State, dict[str, Any]]:
        """The latest state, on the host, and its dict.

        Args:
            like: a state of the same structure, shapes and dtypes.

        Raises:
            ValueError: if the saved state is of another structure; the message names what differs.
        """
        step = self.latest_step
        progress = self._manager.restore(
            step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
        ).progress
        version = progress.pop(_WRITTEN_BY, "unknown")
        differing = _differences(self._manager.item_metadata(step).state, like)
        if differing:
            raise ValueError(
                f"the checkpoint at step {step} in {self.directory}, written by smh_jax {version}, "
                f"does not fit the configuration under smh_jax {smh_jax.__version__}: "
                f"{'; '.join(differing[:3])}{'; ...' if len(differing) > 3 else ''}"
            )
        state = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(jax.tree.map(np.asarray, like))),
        ).state
        return state, progress

    def read(self) -> dict[str, Any]:
        """The latest state as nested dicts on the host, of whatever structure it was saved with."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        return self._manager.restore(self.latest_step, args=args).state


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths with slashes, in the tree's order.

    The names of a tuple's leaves are those of a list's, which a restored tuple becomes.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _differences(saved: Any, wanted: Any) -> list[str]:
    """What keeps a saved tree, of which the metadata are given, from being restored as another."""
    there, here = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(tree).items()}
        for tree in (saved, wanted)
    )
    return [
        f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
