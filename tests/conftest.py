"""Settings of all tests: CPU only, and strict about ranks."""

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
# Most of the time goes into compiling what runs for a few steps.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis
import jax
import pytest

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


@pytest.fixture(scope="session")
def run_python():
    """Runs Python code or a module in a process of its own, on forced CPU devices."""

    def run(*arguments: str, devices: int = 1, check: bool = True, **options):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A data_dir in which digits are prepared, one per worker."""
    from smh_jax import data

    directory = tmp_path_factory.mktemp("tfds")
    data.load(data.describe("digits", str(directory)), "test", str(directory))
    return str(directory)
