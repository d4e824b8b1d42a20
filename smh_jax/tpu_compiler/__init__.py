"""What XLA's compiler for TPUs says of a training step, on a machine without one.

Nothing is run: every number is the compiler's own, of the program that the trainer would run.
"""

from smh_jax.tpu_compiler.analysis import Analysis, analyse
from smh_jax.tpu_compiler.hlo import Summary, summarize
from smh_jax.tpu_compiler.results import Results, table
from smh_jax.tpu_compiler.topology import Topology, find, libtpu_version

__all__ = [
    "Analysis",
    "Results",
    "Summary",
    "Topology",
    "analyse",
    "find",
    "libtpu_version",
    "summarize",
    "table",
]
