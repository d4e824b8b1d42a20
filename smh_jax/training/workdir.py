"""The folder of a run: what it says of the run, and what guards it against being mixed up.

config.json     the configuration     manifest.json   the weights, hashed and stored
metrics.jsonl   one row per log step  events.*        the same for TensorBoard
checkpoints/    the state             result.json     the end: accuracy, counts, seconds
lock            who trains it        lease  the same in a bucket
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from smh_jax import config as configs
from smh_jax import methods, models
from smh_jax.config import Config, PullConfig
from smh_jax.config.buckets import check_reachable
from smh_jax.config.config_files import read_run_config
from smh_jax.config.files import keep_copy, read_json_with_digest, write_json_with_digest
from smh_jax.manifest import Manifest
from smh_jax.training import lease


class Workdir:
    """The folder of one run; see the module."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the folder, which may be in a bucket; nothing is read or written yet."""
        self.path = epath.Path(path)

    def check_usable(self) -> None:
        """Raises ValueError if the folder is not there and cannot be made; nothing is written."""
        if "://" in os.fspath(self.path):
            check_reachable(self.path, "workdir")
            try:
                self.path.exists()
            except Exception as error:
                # Whatever is wrong with a bucket comes as one of many unrelated types.
                raise ValueError(
                    f"workdir={self.path} cannot be reached: {' '.join(str(error).split())}"
                ) from error
            return
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"workdir={self.path} cannot be used: {there} is not a folder")
        if not os.access(there, os.W_OK):
            raise ValueError(f"workdir={self.path} cannot be used: {there} is read-only")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other trainers out of the folder.

        The kernel releases the lock on a folder on disk when this process ends, however it ends. A
        bucket has a lease instead, for the end of which the next one may have to wait.

        Raises:
            ValueError: if another one is in; the message says which, and since when.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if "://" in os.fspath(self.path):
            with lease.leased(self.path / "lease"):
                yield
            return
        with open(self.path / "lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise ValueError(f"workdir={self.path} is in use by {file.read()}") from error
            file.truncate(0)
            now = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}")
            file.flush()
            yield

    def check(self, config: Config) -> Manifest | None:
        """Whether a run with this configuration may use the folder.

        Returns:
            The manifest of the run that is there and may be resumed, or None if there is no run.

        Raises:
            ValueError: if another run is there; the message names the fields that differ.
        """
        path = self.path / "config.json"
        if not path.exists():
            folder = self.path / "checkpoints"
            if folder.exists() and any(folder.iterdir()):
                raise ValueError(
                    f"workdir={self.path} holds checkpoints but no config.json: "
                    "nothing says which run they are of; choose another workdir"
                )
            return None
        there, here = with_all_options(read_run_config(path)), with_all_options(config)
        changed = configs.changes_on_resume(there, here)
        if changed:
            listed = "; ".join(
                f"{name}: {old!r} there, {new!r} here" for name, (old, new) in changed.items()
            )
            hint = "choose another workdir or the same configuration"
            if "epochs" in changed:
                hint += (
                    f" ({configs.what_follows_from_epochs(config)} follows "
                    f"from epochs; --config.init_from={self.path} starts anew from the result)"
                )
            raise ValueError(
                f"workdir={self.path} holds a run with another configuration ({listed}); {hint}"
            )
        try:
            content = read_json_with_digest(self.path / "manifest.json")
            return Manifest.from_json(json.dumps(content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"workdir={self.path} has no readable manifest.json: {error}"
            ) from error

    def read(self) -> tuple[Config, Manifest]:
        """The configuration and the manifest of the run that is there.

        Raises:
            ValueError: if there is none, or it is in a bucket that cannot be reached.
        """
        check_reachable(self.path, "workdir")
        path = self.path / "config.json"
        if not path.exists():
            raise ValueError(f"workdir={self.path} holds no run: it has no config.json")
        config = read_run_config(path)
        manifest = self.check(config)
        assert manifest is not None
        return config, manifest

    def describe(self, config: Config, manifest: Manifest) -> None:
        """Writes what the run is; an earlier, different config.json is kept as config.1.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "config.json"
        if path.exists() and configs.differences(read_run_config(path), config):
            # A copy: without a config.json nothing says what the folder holds.
            keep_copy(path, path.name)
        # The manifest first: a folder with a config.json is complete.
        write_json_with_digest(self.path / "manifest.json", json.loads(manifest.to_json()))
        write_json_with_digest(path, configs.to_json_dict(config))

    def result(self) -> dict[str, Any] | None:
        """The content of result.json, or None; raises ValueError if it is damaged."""
        path = self.path / "result.json"
        try:
            return read_json_with_digest(path) if path.exists() else None
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): rename it to finish anew") from error

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json; that of a shorter training is kept as result.1.json."""
        path = self.path / "result.json"
        if path.exists():
            keep_copy(path, path.name)
        write_json_with_digest(path, result)


def with_all_options(config: Config) -> Config:
    """The same run, whose options may have been fewer or more when it began.

    How weights would be pulled is left out where none are.
    """
    model, method, pull = config.model, config.method, config.pull
    options = models.default_options(model.name) | model.options
    return dataclasses.replace(
        config,
        pull=PullConfig() if pull.towards.name == "dense" else pull,
        model=dataclasses.replace(model, options=options),
        method=dataclasses.replace(
            method, options=methods.all_options(method.name, method.options)
        ),
    )
