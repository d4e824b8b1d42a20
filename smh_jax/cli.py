"""What all commands share: readable logs, and mistakes told in one line."""

import importlib.util
import logging as python_logging
import os
import sys
import traceback
from collections.abc import Callable

# TensorFlow, which serves for reading data alone, takes these when it is imported: messages of
# errors only, and no kernels of which it would have to warn.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
from absl import app, flags, logging

from smh_jax.config.config_files import MISTAKES, one_line
from smh_jax.config.config_files import read_config as read_config
from smh_jax.config.errors import DivergedError, PeerError
from smh_jax.training import processes

# Exit code of a run that was told to end and is to be resumed: sysexits.h's EX_TEMPFAIL.
INTERRUPTED = 75

_HEARD = ("smh_jax", "clu", "scripts", "experiments", "benchmarks")


def run(main: Callable[[list[str]], None], *, takes_arguments: bool = False) -> None:
    """Runs a command's main function after parsing the flags.

    A mistake of the user's (a ValueError, an unknown flag or config field), a file that cannot be
    read or written, a diverged training and the loss of another process end this one with one line
    on the standard error and exit code 1.

    Args:
        main: of the command line without its flags.
        takes_arguments: whether anything but flags may be on it.
    """

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_of_interest)
        try:
            if len(argv) > 1 and not takes_arguments:
                raise ValueError(f"{argv[1]!r} is not a flag, and nothing else is taken")
            main(argv)
        except (OSError, ValueError, DivergedError, PeerError) as error:
            # What libraries say may have many lines.
            line = f"error: {' '.join(str(error).split())}"
            if jax.distributed.is_initialized():
                processes.leave(line)
            raise SystemExit(line) from error
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
            if flag.present and flag.value in ("", []) and flag.value != flag.default:
                raise ValueError(f"--{flag.name}= needs a value")
        return rest
    except ModuleNotFoundError as error:
        # Config files import each other from there.
        raise SystemExit(f"error: {error}; run the command in the project's root") from error
    except MISTAKES as error:
        raise SystemExit(f"error: {one_line(error)}") from error
    except Exception as error:
        # A config file is a program, in which anything may fail.
        file = next(argument for argument in argv if argument.startswith("--config"))
        raise SystemExit(f"error: {file} fails: {type(error).__name__}: {error}") from error


def _of_interest(record: python_logging.LogRecord) -> bool:
    """Keeps the information of this project and clu, and every library's warnings."""
    folders = record.pathname.split(os.sep)
    return record.levelno >= python_logging.WARNING or any(name in folders for name in _HEARD)
