"""The one way from the text that names a config file, with its overrides, to a configuration."""

import os
import shlex

from absl import flags
from etils import epath
from ml_collections import config_flags

from smh_jax.config.dicts import from_config_dict
from smh_jax.config.files import read_json_with_digest
from smh_jax.config.schema import Config

# What config files (ValueError) and config dicts (the others) raise for what they do not know.
MISTAKES = (flags.Error, ValueError, KeyError, AttributeError, TypeError, OSError)


def read_config(text: str) -> Config:
    """The configuration of 'configs/file.py:arguments --config.field=value ...'.

    Args:
        text: the file, relative to the working directory, and the overrides, quoted as in a shell.

    Raises:
        ValueError: if the file, an argument or a field is unknown, or a value does not fit.
    """
    path, *overrides = shlex.split(text)
    argv = ["", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", lock_config=True, flag_values=values, sys_argv=argv
    )
    try:
        rest = values(argv)
        # A file that could not be read shows its error when it is first touched.
        content = config.value.to_dict()
    except MISTAKES as error:
        raise ValueError(f"config={path}: {one_line(error)}") from error
    if len(rest) > 1:
        raise ValueError(f"config={path}: {rest[1]} is not an override; write --config.field=value")
    return from_config_dict(content)


def one_line(error: Exception) -> str:
    """What the flags of a config file say of a mistake, without the traceback around it."""
    cause = error.args[0] if error.args else error
    text = str(cause).strip()
    if isinstance(error, KeyError) or isinstance(cause, KeyError | AttributeError):
        return f"the config has no field {text.strip(chr(34))}"
    return text.splitlines()[-1].strip().removeprefix("ValueError: ")


def read_run_config(path: str | os.PathLike[str]) -> Config:
    """The configuration in the config.json of a run.

    Raises:
        ValueError: if the file is not the configuration of a run; the message names it.
    """
    path = epath.Path(path)
    try:
        return from_config_dict(read_json_with_digest(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not the configuration of a run: {error}") from error
