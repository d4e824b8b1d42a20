"""Compiles the step that the trainer would run for a TPU slice, in a process of its own.

The compiler lays out memory first and writes the code last, which takes nine tenths of its time.
Whether a step fits can so be known soon: the process is ended once its memory is laid out.
"""

import dataclasses
import hashlib
import multiprocessing
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax

from smh_jax.config import Config, from_config_dict, to_json_dict
from smh_jax.tpu_compiler import hlo, topology
from smh_jax.training.distillation import abstract_teacher
from smh_jax.training.program import Program
from smh_jax.training.run import Run

# Enters the program as constants of the learning rate alone; data need not be there.
_NUM_EXAMPLES = 1_281_167
# What a step's code is counted as where it is not compiled to the end. EfficientNet-B2's is 0.1.
CODE_BYTES = 2**29


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is known of a compiled training step. Bytes, FLOPs and cycles are one core's.

    Attributes:
        digest: of the program, before it is optimized, and the compiler's version.
        libtpu: version of the compiler.
        topology, cores: for which it is compiled.
        batch_size, batch_per_core, parts: examples of a step, a core's share, and the microbatches
            that it is split into (`optimizer.accumulate_steps`).
        num_variables, num_weights: trained, and of the base model.
        fits: whether memory suffices, by the compiler's own layout.
        memory_bytes: arguments, temporaries and code; of a step that does not fit as much as the
            compiler gives in its refusal.
        limit_bytes: what a program may use.
        code_bytes: of these, the program itself; None where it was not compiled to the end and
            `CODE_BYTES` was counted.
        all_reduces, all_reduced_bytes, group_reduced_bytes, irregular: see `hlo.Summary`; None
            for a step that does not fit.
        all_gathered_bytes: likewise; None also in analyses from before it was counted.
        flops, bytes_accessed: as XLA counts them; loops count once. None, as all that follows,
            unless the step fits and is compiled to the end.
        cycles: sum of the compiler's estimates, which leave out collectives, gathers, sorts and
            scatters: where weights are hashed without structure, a lower bound.
        samples_per_second: of the whole slice, by these cycles and the cores' clock rate.
        compile_seconds: what compiling took.
    """

    digest: str
    libtpu: str
    topology: str
    cores: int
    batch_size: int
    batch_per_core: int
    parts: int
    num_variables: int
    num_weights: int
    fits: bool
    memory_bytes: int
    limit_bytes: int
    compile_seconds: float
    code_bytes: int | None = None
    all_reduces: int | None = None
    all_reduced_bytes: int | None = None
    group_reduced_bytes: int | None = None
    irregular: int | None = None
    all_gathered_bytes: int | None = None
    flops: float | None = None
    bytes_accessed: float | None = None
    cycles: int | None = None
    samples_per_second: float | None = None


Known = Callable[[str], Analysis | None]


def analyse(
    config: Config, topology_name: str, *, memory_only: bool = False, known: Known | None = None
) -> Analysis:
    """Compiles the training step of a configuration.

    Args:
        config: what to train. No data is needed.
        topology_name: see `topology.find`.
        memory_only: ends the compiler before it writes the code.
        known: an earlier analysis by digest, which is returned in place of compiling again.

    Raises:
        ValueError: if the configuration is not fit for the topology, or libtpu is missing.
        RuntimeError: if the compiler fails otherwise.
    """
    topology.libtpu_version()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (to_json_dict(config), topology_name, folder, theirs)
        worker = context.Process(target=_compile, args=arguments, daemon=True)
        worker.start()
        theirs.close()
        try:
            lowered = _receive(ours)
            if known is not None and (earlier := known(lowered["digest"])) is not None:
                return earlier
            begin = time.monotonic()
            ours.send("compile")
            dump = pathlib.Path(folder)
            while not ours.poll(0.5):
                if memory_only and (text := _laid_out(dump)) is not None:
                    compiled = {"text": text}
                    break
            else:
                compiled = _receive(ours)
            seconds = round(time.monotonic() - begin, 1)
            return _analysis(lowered, compiled, dump, seconds)
        finally:
            worker.kill()
            worker.join()


def _receive(connection: Connection) -> dict[str, Any]:
    try:
        message = connection.recv()
    except EOFError as error:
        raise RuntimeError("the compiler ended without a result") from error
    if isinstance(message, Exception):
        raise message
    return message


def _compile(content: dict[str, Any], name: str, folder: str, connection: Connection) -> None:
    """In the process of the compiler: sends what is known when lowered, then when compiled."""
    try:
        tpu = topology.find(name)
        lowered, facts = lower(from_config_dict(content), tpu)
        version = topology.libtpu_version()
        digest = hashlib.sha256(f"{version} {name}\n{lowered.as_text()}".encode()).hexdigest()
        connection.send(
            facts
            | {
                "digest": digest,
                "libtpu": version,
                "limit_bytes": tpu.memory_bytes,
                "clock_hz": tpu.clock_hz,
            }
        )
        connection.recv()
        try:
            options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
            compiled = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            exceeded = topology.Exceeded.parse(str(error))
            if exceeded is None:
                raise RuntimeError(str(error)) from None
            connection.send({"exceeded": exceeded})
            return
        costs = compiled.cost_analysis()
        connection.send(
            {
                "text": compiled.as_text(),
                "code_bytes": compiled.memory_analysis().generated_code_size_in_bytes,
                "flops": costs["flops"],
                "bytes_accessed": costs["bytes accessed"],
            }
        )
    except (ValueError, RuntimeError) as error:
        connection.send(error)


def lower(config: Config, to: topology.Topology) -> tuple[Any, dict[str, Any]]:
    """The training step as the trainer maps it, donation included, and facts that name it.

    Args:
        config: what to train.
        to: whose cores it is mapped over.

    Raises:
        ValueError: also if `distillation.teacher` names a folder without a run; its weights are
            not needed.
    """
    cores = len(to.devices)
    run = Run.from_config(config, num_devices=cores)
    teacher = abstract_teacher(config.distillation, run)
    program = Program.for_run(
        run,
        _NUM_EXAMPLES,
        devices=to.devices,
        distillation=None if teacher is None else teacher.distillation,
    )
    per_core = config.data.batch_size // cores
    batch = run.task.abstract_batch(run.dataset, per_core, config.data.image_dtype)
    state = jax.eval_shape(program.init_state)
    arguments = [
        program.backend.abstract(state, to.devices, split=False),
        program.backend.abstract(batch, to.devices, split=True),
    ]
    if teacher is not None:
        arguments.append(program.backend.abstract(teacher.collections, to.devices, split=False))
    facts = {
        "topology": to.name,
        "cores": cores,
        "batch_size": config.data.batch_size,
        "batch_per_core": per_core,
        "parts": config.optimizer.accumulate_steps,
        "num_variables": run.method.num_variables,
        "num_weights": run.method.manifest.num_weights,
    }
    return program.train_step.lower(*arguments), facts


def _laid_out(dump: pathlib.Path) -> str | None:
    """The program whose memory is laid out, once the compiler has written all of it."""
    for path in dump.glob("*after_optimizations_after_buffer_assignment.txt"):
        text = path.read_text()
        if "\nENTRY" in text and text.rstrip().endswith("\n}"):
            return text
    return None


def allocated_bytes(report: str) -> int:
    """Arguments and temporaries of XLA's memory usage report.

    Raises:
        ValueError: if the report does not have them.
    """
    match = re.search(r"^Memory Space: default .*\nTotal bytes: (\d+)", report, re.MULTILINE)
    if match is None:
        raise ValueError("XLA's memory usage report has no total of the default memory")
    return int(match[1])


def _analysis(
    lowered: dict[str, Any], compiled: dict[str, Any], dump: pathlib.Path, seconds: float
) -> Analysis:
    clock = lowered.pop("clock_hz")
    common = {**lowered, "compile_seconds": seconds}
    if exceeded := compiled.get("exceeded"):
        return Analysis(**common, fits=False, memory_bytes=exceeded.used_bytes)
    (report,) = dump.glob("*after_optimizations-memory-usage-report.txt")
    code = compiled.get("code_bytes")
    memory = allocated_bytes(report.read_text()) + (CODE_BYTES if code is None else code)
    summary = hlo.summarize(compiled["text"])
    measured: dict[str, Any] = {}
    if code is not None:
        measured = {
            "flops": compiled["flops"],
            "bytes_accessed": compiled["bytes_accessed"],
            "cycles": summary.cycles,
        }
        if clock is not None:
            measured["samples_per_second"] = lowered["batch_size"] * clock / summary.cycles
    return Analysis(
        **common,
        fits=memory <= lowered["limit_bytes"],
        memory_bytes=memory,
        code_bytes=code,
        all_reduces=summary.all_reduces,
        all_reduced_bytes=summary.all_reduced_bytes,
        group_reduced_bytes=summary.group_reduced_bytes,
        irregular=summary.irregular,
        all_gathered_bytes=summary.all_gathered_bytes,
        **measured,
    )
