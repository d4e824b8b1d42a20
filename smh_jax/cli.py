"""What all commands share: readable logs, and mistakes told in one line."""

import importlib.util
import logging as python_logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable

# TensorFlow, which serves for reading data alone, takes these when it is imported: messages of
# errors only, and no kernels of which it would have to warn.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from smh_jax.config import Config, from_config_dict
from smh_jax.config.errors import DivergedError, PeerError
from smh_jax.training import processes

_HEARD = ("smh_jax", "clu", "scripts", "experiments", "benchmarks")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command's main function after parsing the flags.

    A mistake of the user's (a ValueError, an unknown flag or config field), a diverged training and
    the loss of another process end this one with one line on the standard error and exit code 1.
    """

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_of_interest)
        try:
            main(argv)
        except (ValueError, DivergedError, PeerError) as error:
            if jax.distributed.is_initialized():
                processes.leave(f"error: {error}")
            raise SystemExit(f"error: {error}") from error
        except Exception:
            if jax.distributed.is_initialized():
                processes.leave(traceback.format_exc())
            raise

    app.run(guarded, flags_parser=_parse_flags)


def require(module: str, extra: str) -> None:
    """Checks, before any work is done, for a library that not every installation has.

    Raises:
        ValueError: if it is missing; the message says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"this needs {module}: pip install 'smh_jax[{extra}]'")


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        for flag in flags.FLAGS.flags_by_module_dict().get(sys.argv[0], []):
            # A config file that could not be read shows its error when it is first touched.
            getattr(flag.value, "to_dict", None)
        return rest
    # Config files raise ValueError, config dicts KeyError and others for unknown or ill-typed
    # fields.
    except ModuleNotFoundError as error:
        # Config files import each other from there.
        raise SystemExit(f"error: {error}; run the command in the project's root") from error
    except (flags.Error, ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        cause = error.args[0] if error.args else error
        message = str(cause).strip()
        if isinstance(error, KeyError) or isinstance(cause, KeyError | AttributeError):
            message = f"the config has no field {message.strip(chr(34))}"
        # Of an error inside of a config file the library gives the whole traceback.
        raise SystemExit(f"error: {message.splitlines()[-1]}") from error


def read_config(arguments: str) -> Config:
    """The configuration of 'configs/file.py:arguments --config.field=value ...'.

    Raises:
        ValueError: if the file or a field is not known.
    """
    path, *overrides = shlex.split(arguments)
    argv = ["", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", lock_config=True, flag_values=values, sys_argv=argv
    )
    try:
        rest = values(argv)
        # A file that could not be read shows its error when it is first touched.
        content = config.value.to_dict()
    except (flags.Error, KeyError, AttributeError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"{arguments!r}: {error}") from error
    if len(rest) > 1:
        raise ValueError(f"{arguments!r}: {rest[1]} is not an override; write --config.field=value")
    return from_config_dict(content)


def _of_interest(record: python_logging.LogRecord) -> bool:
    """Keeps the information of this project and clu, and every library's warnings."""
    folders = record.pathname.split(os.sep)
    return record.levelno >= python_logging.WARNING or any(name in folders for name in _HEARD)
