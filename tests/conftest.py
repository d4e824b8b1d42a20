"""Settings of all tests: CPU only, and strict about ranks."""

import gc
import importlib
import os
import pathlib
import subprocess
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
# Most programs are compiled in several tests and processes: once is enough.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
# Most of the time goes into compiling what runs for a few steps: without optimizations, by the
# older emitter and in one piece it takes a tenth of the processor time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis
import jax
import pytest
from absl import flags

from tests import forks

ROOT = pathlib.Path(__file__).parents[1]

# The same examples every time, however slow the machine is.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """What takes minutes begins first, so that at the end no worker waits for it."""

    def minutes(item: pytest.Item) -> float:
        marker = item.get_closest_marker("slow")
        return marker.kwargs.get("minutes", 0) if marker else 0

    items.sort(key=minutes, reverse=True)


def pytest_collection_finish():
    """What has been imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def start_python():
    """Starts Python code or a module in a process of its own, on forced CPU devices.

    The process is a fork of one that has imported what is slow to import, and in which nothing has
    been computed.
    """
    server = None

    def start(*arguments: str, devices: int = 1) -> forks.Process:
        nonlocal server
        server = server or forks.Server(ROOT)
        return server.start(*arguments, cwd=ROOT, env=environment(devices))

    yield start
    if server is not None:
        server.close()


@pytest.fixture(scope="session")
def run_python(start_python):
    """Runs Python code or a module to its end, by `start_python` or as a user starts it."""

    def run(*arguments: str, devices: int = 1, check: bool = True, anew: bool = False):
        if anew:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment(devices),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        else:
            process = start_python(*arguments, devices=devices)
        stdout, stderr = process.communicate(timeout=600)
        if check:
            assert process.returncode == 0, stderr[-4000:]
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return run


def environment(devices: int) -> dict[str, str]:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


@pytest.fixture
def fresh_flags(monkeypatch):
    """No command's flags are defined, as in a process of its own, but those that all share."""
    importlib.import_module("smh_jax.cli")
    # Some tests import commands, whose flags have the same names.
    state = vars(flags.FLAGS)
    for key in ("__flags", "__flags_by_module", "__flags_by_module_id"):
        monkeypatch.setitem(state, key, dict(state[key]))
    ours = ("smh_jax", "benchmarks", "experiments", "scripts")
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.split(".")[0] in ours and module != "smh_jax.cli":
            for flag in defined:
                state["__flags"].pop(flag.name, None)
    # A config file is read into the module of the one before it, if there is one.
    for name in [name for name in sys.modules if name.endswith("_config")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A data_dir in which digits are prepared, one per worker."""
    from smh_jax import data

    directory = tmp_path_factory.mktemp("tfds")
    data.load(data.describe("digits", str(directory)), "test", str(directory))
    return str(directory)
