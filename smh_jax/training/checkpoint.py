"""Checkpoints of a run, by orbax: complete or absent, whenever the process ends."""

import hashlib
import json
import math
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

import smh_jax
from smh_jax.config.errors import DivergedError, PeerError
from smh_jax.config.files import keep
from smh_jax.training import processes

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
        state = self.check_finite(state)
        progress = progress | {_WRITTEN_BY: {"version": smh_jax.__version__}}
        progress[_WRITTEN_BY]["sha256"] = _digest(state, progress)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
            ),
        )

    def check_finite(self, state: State) -> State:
        """The state as NumPy arrays, all of whose numbers are finite.

        Raises:
            DivergedError: if one is not; the message names it and the last good checkpoint.
        """
        state = jax.tree.map(np.asarray, state)
        if (name := _not_finite(state)) is not None:
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
        """The latest state that is as it was saved, on the host, and its dict.

        Damaged checkpoints that are newer are renamed, and training resumes before them.

        Args:
            like: a state of the same structure, shapes and dtypes.

        Raises:
            ValueError: if all are damaged, or the saved state is of another structure; the message
                names what is damaged or differs.
        """
        faults: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved, progress = self._load(step)
                break
            except Exception as error:
                if not _tells_of_damage(error):
                    raise
                # What a damaged file brings about in several libraries is of no one type.
                faults[step] = f"step {step} ({_short(error)})"
        else:
            raise ValueError(
                f"every checkpoint in {self.directory} is damaged: {', '.join(faults.values())}"
            )
        version = progress.pop(_WRITTEN_BY)["version"]
        differing = _differences(saved, like)
        if differing:
            raise ValueError(
                f"the checkpoint at step {step} in {self.directory}, written by smh_jax {version}, "
                f"does not fit the configuration under smh_jax {smh_jax.__version__}: "
                f"{'; '.join(differing[:3])}{'; ...' if len(differing) > 3 else ''}"
            )
        if faults:
            self._set_aside(faults, step)
        leaves = named_leaves(saved)
        ordered = [np.asarray(leaves[name]) for name in named_leaves(like)]
        return jax.tree.unflatten(jax.tree.structure(like), ordered), progress

    def read(self) -> dict[str, Any]:
        """The latest state as nested dicts on the host, of whatever structure it was saved with.

        Raises:
            ValueError: if it is damaged.
        """
        step = self.latest_step
        try:
            return self._load(step)[0]
        except Exception as error:
            if not _tells_of_damage(error):
                raise
            raise ValueError(
                f"the checkpoint at step {step} in {self.directory} is damaged ({_short(error)}); "
                "training resumes from the one before it, if there is one"
            ) from error

    def _load(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """A state as nested dicts and its dict, checked against the digest saved with them."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        state, progress = restored.state, restored.progress
        written_by = progress[_WRITTEN_BY]
        if isinstance(written_by, str):
            # From before there were digests.
            progress[_WRITTEN_BY] = {"version": written_by}
        elif written_by.pop("sha256") != _digest(state, progress):
            raise ValueError("its content does not have the digest that it was saved with")
        if (name := _not_finite(state)) is not None:
            raise ValueError(f"its {name} is not finite")
        return state, progress

    def _set_aside(self, faults: dict[int, str], good: int) -> None:
        """Renames damaged checkpoints, once all processes have seen that they are."""
        processes.check_same("the newest checkpoint that is not damaged", repr(good))
        if jax.process_index() == 0:
            for step, fault in faults.items():
                keep(self.directory / str(step), f"{step}.damaged")
                logging.warning("a damaged checkpoint is set aside: %s", fault)
        processes.barrier("damaged checkpoints")
        self._manager.reload()


def _tells_of_damage(error: Exception) -> bool:
    """Whether an error comes from what is in a checkpoint, and not from reading it here and now."""
    if isinstance(error, OSError):
        # Files that are gone do not come back; a disk or a bucket that fails may.
        return isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return not isinstance(error, MemoryError | jax.errors.JaxRuntimeError)


def _not_finite(state: Any) -> str | None:
    """The name of a leaf that has a number that is not finite, or None."""
    for name, leaf in named_leaves(state).items():
        # The sum is finite where all is: float64 does not overflow on sums of float32.
        with np.errstate(invalid="ignore"):
            if not math.isfinite(np.sum(leaf, dtype=np.float64)):
                return name
    return None


def _digest(state: Any, progress: dict[str, Any]) -> str:
    """SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(json.dumps(progress, sort_keys=True).encode())
    for name, leaf in sorted(named_leaves(state).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _short(error: Exception) -> str:
    """What a library says, of which the end can be pages."""
    return f"{' '.join(str(error).split()) or type(error).__name__!s:.200}"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths with slashes, in the tree's order.

    The names of a tuple's leaves are those of a list's, which a restored tuple becomes.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _differences(saved: Any, wanted: Any) -> list[str]:
    """What keeps a saved tree from being restored as another."""
    there, here = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(tree).items()}
        for tree in (saved, wanted)
    )
    return [
        f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
