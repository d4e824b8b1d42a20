"""What all commands share: readable logs, and mistakes told in one line."""

import functools
import hashlib
import importlib.util
import logging as python_logging
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

# TensorFlow, which serves for reading data alone, takes these when it is imported: messages of
# errors only, and no kernels of which it would have to warn.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging

import smh_jax
from smh_jax.config.config_files import MISTAKES, one_line
from smh_jax.config.config_files import read_config as read_config
from smh_jax.config.errors import DivergedError, PeerError

# Several commands may be imported into one process.
QUIET = flags.DEFINE_bool("quiet", False, "Say only warnings and the result.", allow_override=True)
VERBOSE = flags.DEFINE_bool("verbose", False, "Also say what libraries do.", allow_override=True)
flags.DEFINE_bool("version", False, "Print the version, and do nothing.", allow_override=True)

# Exit code of a run that was told to end and is to be resumed: sysexits.h's EX_TEMPFAIL.
INTERRUPTED = 75

# Of the compiled programs that are kept.
_CACHE_BYTES = 2 * 2**30

_HEARD = ("smh_jax", "clu", "scripts", "experiments", "benchmarks")
_FULL = ("No space left on device", "File too large", "Disk quota exceeded")


def run(
    main: Callable[[list[str]], None],
    *,
    takes_arguments: bool = False,
    keeps_programs: bool = True,
) -> None:
    """Runs a command's main function after parsing the flags.

    A mistake of the user's (a ValueError, an unknown flag or config field), a file that cannot be
    read or written, a lack of memory, a diverged training and the loss of another process end this
    one with one line on the standard error and exit code 1.

    Every command has the flags --version, --quiet and --verbose. Compiled programs are kept, see
    `keep_compiled_programs`.

    Args:
        main: of the command line without its flags.
        takes_arguments: whether anything but flags may be on it.
        keeps_programs: whether compiled programs may come from earlier commands.
    """

    def guarded(argv: list[str]) -> None:
        _set_up_log()
        sys.unraisablehook = functools.partial(_tell_unraisable, sys.unraisablehook)
        try:
            if len(argv) > 1 and not takes_arguments:
                raise ValueError(f"{argv[1]!r} is not a flag, and nothing else is taken")
            main(argv)
        except Exception as error:
            line = _mistake(error)
            if line is None:
                _leave_peers(traceback.format_exc())
                raise
            _leave_peers(line)
            raise SystemExit(line) from error

    if keeps_programs:
        keep_compiled_programs()
    app.run(guarded, flags_parser=_parse_flags)


def keep_compiled_programs(max_bytes: int = _CACHE_BYTES) -> None:
    """Lets JAX keep compiled programs in the user's cache folder, for the next command.

    The folder is `smh_jax/compiled-PROCESSOR` in $XDG_CACHE_HOME or ~/.cache. Nothing is kept where
    it cannot be written, and JAX_COMPILATION_CACHE_DIR and JAX_ENABLE_COMPILATION_CACHE=false say
    otherwise. To be called before JAX is imported.

    Args:
        max_bytes: that may be in the folder; the programs compiled first are removed. JAX's own
            limit would have processes wait for each other's locks.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = root / "smh_jax" / f"compiled-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        _remove_oldest(folder, max_bytes)
    except (OSError, RuntimeError):
        # Of a user without a home, too.
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _remove_oldest(folder: pathlib.Path, max_bytes: int) -> None:
    """Removes the files that were written first, but for so many bytes of the last ones."""
    # Files alone: XLA has a folder there, too. Another command may be removing the same ones.
    with os.scandir(folder) as entries:
        files = [(entry.stat(), entry.path) for entry in entries if entry.is_file()]
    files.sort(key=lambda file: file[0].st_mtime, reverse=True)
    num_bytes = 0
    for stat, path in files:
        num_bytes += stat.st_size
        if num_bytes > max_bytes:
            pathlib.Path(path).unlink(missing_ok=True)


def _processor() -> str:
    """Names a kind of processor: programs for one may use instructions that another has not."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kind = {line for line in lines if line.startswith(("flags", "model name", "Features"))}
    return hashlib.sha256("".join(sorted(kind)).encode()).hexdigest()[:8]


def _mistake(error: Exception) -> str | None:
    """The line that tells an error, or None if it is one of the program's own."""
    # What libraries say may have many lines and pages.
    text = " ".join(str(error).split())
    for words in _FULL:
        if words in text:
            return (
                f"error: {words}: what was saved before is not lost, and the same command "
                f"resumes when there is room ({text:.300})"
            )
    if isinstance(error, OSError | ValueError | DivergedError | PeerError):
        return f"error: {text:.2000}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return (
            f"error: out of memory ({text or 'of this machine'!s:.300}); a smaller data.batch_size "
            "or a larger optimizer.accumulate_steps needs less"
        )
    return None


def require(module: str, extra: str) -> None:
    """Checks, before any work is done, for a library that not every installation has.

    Raises:
        ValueError: if it is missing; the message says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"this needs {module}: pip install 'smh_jax[{extra}]'")


def say_only_warnings() -> None:
    """For processes besides the first: one voice is enough."""
    logging.set_verbosity(logging.WARNING)


def _set_up_log() -> None:
    """Plain lines on the standard error: of this project, and every library's warnings."""
    if QUIET.value and VERBOSE.value:
        raise SystemExit("error: give either --quiet or --verbose")
    logging.set_verbosity(logging.WARNING if QUIET.value else logging.INFO)
    handler = logging.get_absl_handler()
    if VERBOSE.value:
        return
    handler.addFilter(_of_interest)
    handler.setFormatter(_Plain())


def _leave_peers(text: str) -> None:
    """Tells the other processes of the run, if there are any, why this one ends."""
    # It takes seconds to load, and who has not loaded it has no peers.
    if "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
        from smh_jax.training import processes

        processes.leave(text)


def _parse_flags(argv: list[str]) -> list[str]:
    if "--version" in argv[1:]:
        print(f"smh_jax {smh_jax.__version__}")
        raise SystemExit(0)
    for name in ("quiet", "verbose", "version"):
        # Shown by --help.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    if {"--help", "-h", "-help"} & set(argv[1:]):
        app.usage(writeto_stdout=True, exitcode=0)
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
        given = [argument for argument in argv if re.match("--?config(=|$)", argument)]
        file = given[0] if given else "the config file"
        raise SystemExit(f"error: {file} fails: {type(error).__name__}: {error}") from error


class _Plain(python_logging.Formatter):
    """The message alone, of a warning or an error behind that word."""

    def format(self, record: python_logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        is_plain = record.levelno < python_logging.WARNING
        return text if is_plain else f"{record.levelname.lower()}: {text}"


def _tell_unraisable(tell: Callable[[Any], object], what: Any) -> None:
    """Tells an error that nobody can handle, but not what follows from one that somebody does."""
    # The writes of a checkpoint that are still under way when one of them has failed.
    if str(what.exc_value) != "Event loop is closed":
        tell(what)


def _of_interest(record: python_logging.LogRecord) -> bool:
    """Keeps the information of this project and clu, and every library's warnings."""
    folders = record.pathname.split(os.sep)
    if record.exc_info and "orbax" in folders:
        # orbax also raises what it logs, and the error is then reported in one line.
        return False
    return record.levelno >= python_logging.WARNING or any(name in folders for name in _HEARD)
