"""The TPU slices for which a step can be compiled, and what their compiler says of them."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from smh_jax.training import parallel

# Published clock rates (Jouppi et al. 2023, arXiv:2304.01433, table 4). Of other generations the
# compiler's estimates are not to be relied on.
_CLOCK_HZ = {"TPU v2": 700e6, "TPU v3": 940e6, "TPU v4": 1050e6}
# The two cores of a chip are one device of twice the memory, as where Cloud TPUs run JAX.
_OPTIONS = {"v4": {"chip_config_name": "megacore"}}
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of a TPU pod.

    Attributes:
        name: such as 'v3:4x4', the generation and the number of chips in each direction.
        devices: its cores, to compile for.
        clock_hz: of a core; None where it is not known.
        memory_bytes: that a program may use, of each core.
    """

    name: str
    devices: tuple[jax.Device, ...]
    clock_hz: float | None
    memory_bytes: int


def libtpu_version() -> str:
    """The installed compiler's.

    Raises:
        ValueError: if it is not installed; the message says how to.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "libtpu, which holds the compiler for TPUs, is not installed (Linux on x86-64 only): "
            "pip install -c constraints.txt -e '.[tpu-compile]'"
        )
    return importlib.metadata.version("libtpu")


@functools.cache
def find(name: str) -> Topology:
    """The named topology.

    Args:
        name: such as 'v3:2x2' (8 cores) or 'v3:4x4' (32 cores), 'v4:2x2x4', 'v5e:4x4', 'v5p:2x2x4'
            or 'v6e:4x4' (16 chips, each of which is one device).

    Raises:
        ValueError: for an unknown one, or without libtpu.
    """
    libtpu_version()
    # No TPU is asked for: neither its address, nor to be the only process that uses it.
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        options = _OPTIONS.get(name.partition(":")[0], {})
        devices = topologies.get_topology_desc(name, "tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"topology={name!r} is not known to libtpu; v3:2x2 and v3:4x4 are ({error})"
        ) from error
    kind = devices[0].device_kind
    return Topology(name, tuple(devices), _CLOCK_HZ.get(kind), _memory_bytes(devices))


def _memory_bytes(devices: list[jax.Device]) -> int:
    """Asks for more than there is: the refusal names the limit."""
    too_many = 2**18
    mapped = parallel.backend().map_replicas(lambda x: x + x.T, donate_state=False, devices=devices)
    argument = jax.ShapeDtypeStruct((len(devices), too_many, too_many), jnp.float32)
    try:
        mapped.lower(argument).compile()
    except jax.errors.JaxRuntimeError as error:
        exceeded = Exceeded.parse(str(error))
        if exceeded is None:
            raise
        return exceeded.limit_bytes
    raise AssertionError(f"a core that holds {4 * too_many**2 / _GIB} GiB")


@dataclasses.dataclass(frozen=True)
class Exceeded:
    """What the compiler says where a program does not fit into memory."""

    used_bytes: int
    limit_bytes: int

    @classmethod
    def parse(cls, message: str) -> "Exceeded | None":
        """None of a message that says something else."""
        for pattern in (
            r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)",
            r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm",
        ):
            if match := re.search(pattern, message):
                return cls(_bytes(match[1]), _bytes(match[2]))
        return None


def _bytes(text: str) -> int:
    """Of 15.48G, in the compiler's binary units."""
    power = "KMGT".find(text[-1]) + 1
    return int(float(text.rstrip("KMGT")) * 1024**power)
