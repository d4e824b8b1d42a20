"""Checkpoints of a run, by orbax: complete or absent, whenever the process ends."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from smh_jax.step import TrainState


class Checkpoints:
    """The checkpoints in a workdir; also a context manager that waits for the last one."""

    def __init__(self, workdir: pathlib.Path, keep: int) -> None:
        """Opens or creates `workdir/checkpoints`, which keeps the latest `keep` of them."""
        self.directory = (workdir / "checkpoints").resolve()
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_names=("state", "progress"),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the latest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Saves an unreplicated state and a JSON-able dict; writes in the background."""
        step = int(state.step)
        if step == self.latest_step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(jax.tree.map(np.asarray, state)),
                progress=ocp.args.JsonSave(progress),
            ),
        )

    def wait(self) -> None:
        """Returns when what was saved is complete on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The latest state, on the host, and its dict.

        Args:
            like: a state of the same structure, shapes and dtypes.

        Raises:
            ValueError: if the saved state is of another structure.
        """
        like = jax.tree.map(np.asarray, like)
        restored = self._manager.restore(
            self.latest_step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore()
            ),
        )
        for wanted, found in zip(
            jax.tree.leaves(like), jax.tree.leaves(restored.state), strict=True
        ):
            if wanted.shape != found.shape or wanted.dtype != found.dtype:
                raise ValueError(
                    f"the checkpoint at step {self.latest_step} in {self.directory} has a tensor "
                    f"{found.shape} {found.dtype} where this run has {wanted.shape} {wanted.dtype}"
                )
        return restored.state, restored.progress

    def read(self) -> dict[str, Any]:
        """The latest state as nested dicts on the host, of whatever structure it was saved with."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        return self._manager.restore(self.latest_step, args=args).state
