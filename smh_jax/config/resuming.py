"""In what a run may differ from how it began, when it is resumed."""

from typing import Any

from smh_jax.config.dicts import to_json_dict
from smh_jax.config.schema import Config

# Fields in which a run that is resumed may differ from how it began: they change what it writes and
# how it is spread over devices, never what a step computes.
_CHANGEABLE = (
    "log_every_steps",
    "eval_every_epochs",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "optimizer.accumulate_steps",  # The loop checks its product with the number of devices.
    "data.data_dir",
    "data.eval_batch_size",
    "data.skip_corrupt",
    "parallel.backend",
    "parallel.model_devices",  # As of the microbatches.
)
# Under these every step's rate follows from the number of all steps.
_SCHEDULES_OVER_ALL_STEPS = ("cosine", "one_cycle")


def changes_on_resume(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The fields, with both values, in which a resumed run differs where it must not."""
    changeable = _CHANGEABLE if what_follows_from_epochs(now) else (*_CHANGEABLE, "epochs")
    return {
        field: values
        for field, values in differences(before, now).items()
        if field not in changeable
    }


def what_follows_from_epochs(config: Config) -> str:
    """What in every step depends on the number of all steps, in words; '' if nothing does."""
    if config.pruning:
        return f"under pruning={config.pruning} every step's sparsity"
    if config.pull.towards.name != "dense":
        return "with config.pull every step's strength"
    if config.optimizer.schedule in _SCHEDULES_OVER_ALL_STEPS:
        return f"under schedule {config.optimizer.schedule!r} every step's rate"
    return ""


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ, by dotted name, with both values."""
    # With all of Flax, which who only reads a config can do without.
    from flax.traverse_util import flatten_dict

    ours, theirs = (flatten_dict(to_json_dict(config), sep=".") for config in (one, other))
    return {
        name: (ours.get(name), theirs.get(name))
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    }
