"""What is read out of the TPU compiler's programs and reports; real ones where libtpu is."""

import dataclasses
import importlib.util
import json

import jax
import pytest

from benchmarks import tpu_compile
from smh_jax import cli, tpu_compiler
from smh_jax.tpu_compiler import analysis, hlo, results, topology
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir
from tests.small import digits_config

# Cut out of a program of eight cores; layouts, comments and configurations as they are printed.
PROGRAM = """\
HloModule jit__fun, is_scheduled=true, entry_computation_layout={(f32[1,8]{1,0})->f32[8]{0}}

%fused_computation.1 (param_0.1: f32[8]) -> f32[8] {
  %param_0.1 = f32[8]{0:T(256)} parameter(0)
  ROOT %mul.1 = f32[8]{0:T(256)} multiply(%param_0.1, %param_0.1)
}

%fused_computation.2 (param_0.2: f32[50], param_1.2: s32[20]) -> f32[20] {
  %param_0.2 = f32[50]{0:T(256)} parameter(0)
  %param_1.2 = s32[20]{0:T(256)} parameter(1)
  ROOT %gather.1 = f32[20]{0:T(256)} gather(%param_0.2, %param_1.2), slice_sizes={1}
}

%fused_computation.3 (param_0.3: f32[50], param_1.3: s32[20]) -> f32[20] {
  %param_0.3 = f32[50]{0:T(256)} parameter(0)
  %param_1.3 = s32[20]{0:T(256)} parameter(1)
  ROOT %fusion.9 = f32[20]{0:T(256)} fusion(%param_0.3, %param_1.3), calls=%fused_computation.2
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(256)} parameter(0)
  %y = f32[]{:T(256)} parameter(1)
  ROOT %sum = f32[]{:T(256)} add(%x, %y)
}

%body.2 (param: (s32[], f32[8])) -> (s32[], f32[8]) {
  %param = (s32[]{:T(256)}, f32[8]{0:T(256)}) parameter(0)
  %get = f32[8]{0:T(256)} get-tuple-element(%param), index=1
  %fusion.7 = f32[8]{0:T(256)} fusion(%get), kind=kLoop, calls=%fused_computation.1, \
metadata={op_name="jit(_fun)/while/body/mul"}, backend_config={"window_config":\
{"kernel_window_bounds":[],"estimated_cycles":"100","iteration_bounds":["1"]}}
  %gather_fusion = f32[20]{0:T(256)} fusion(%v, %w), kind=kCustom, calls=%fused_computation.3
  %all-gather.1 = f32[16]{0:T(256)} all-gather(%fusion.7), replica_groups=[1,8]<=[8]
  %all-reduce.8 = (f32[8]{0:T(256)}, bf16[2,4]{1,0:T(4,128)(2,1)}) all-reduce(%fusion.7, %b), \
channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true, to_apply=%add
  ROOT %tuple.2 = (s32[]{:T(256)}, f32[8]{0:T(256)}) tuple(%next, %fusion.7)
}

%condition.2 (param.1: (s32[], f32[8])) -> pred[] {
  %constant.5 = s32[]{:T(256)} constant(3), metadata={op_name="jit(_fun)"}
  %param.1 = (s32[]{:T(256)}, f32[8]{0:T(256)}) parameter(0)
  %index = s32[]{:T(256)} get-tuple-element(%param.1), index=0
  ROOT %lt.1 = pred[]{:T(1024)} compare(%index, %constant.5), direction=LT
}

ENTRY %main.9_spmd (p.0: f32[1,8]) -> f32[8] {
  %p.0 = f32[1,8]{1,0:T(2,128)} parameter(0)
  %fusion.1 = f32[8]{0:T(256)} fusion(%p.0), kind=kOutput, calls=%fused_computation.1, \
backend_config={"window_config":{"estimated_cycles":"1000"}}
  %while.1 = (s32[]{:T(256)}, f32[8]{0:T(256)}) while(%t.1), condition=%condition.2, \
body=%body.2, metadata={op_name="jit(_fun)/while"}
  %all-reduce.1 = (f32[30,20]{0,1:T(8,128)}, f32[]{:T(256)}, /*index=2*/s32[8]{0:T(256)}) \
all-reduce(%u, %v, %w), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, \
use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(_fun)/psum"}
  %updates = f32[7,3]{1,0:T(8,128)} fusion(%v), kind=kLoop, calls=%fused_computation.1
  %scatter.1 = f32[90]{0:T(256)} scatter(%zeros, %indices, %updates), to_apply=%add
  %all-reduce.2 = pred[10]{0:T(256)} all-reduce(%w), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %copy.1 = f32[8]{0:T(256)} copy(%fusion.1), backend_config={"estimated_cycles":7}
}
"""
ALL = 4 * (30 * 20 + 1 + 8) + 10
GROUPED = 4 * 8 + 2 * 8


def test_a_program_is_added_up_with_its_loops():
    found = hlo.summarize(PROGRAM)
    assert found == hlo.Summary(
        cycles=1000 + 3 * 100 + 7,
        irregular=7 * 3 + 3 * 20,
        all_reduces=2 + 3,
        all_reduced_bytes=ALL,
        group_reduced_bytes=3 * GROUPED,
        all_gathered_bytes=3 * 4 * 16,
    )


def test_what_is_gathered_between_a_start_and_its_end_is_counted_once():
    started = PROGRAM.replace(
        "f32[16]{0:T(256)} all-gather(", "(f32[2]{0}, f32[16]{0}) all-gather-start("
    )
    assert started != PROGRAM
    assert hlo.summarize(started) == hlo.summarize(PROGRAM)


def test_the_length_of_a_loop_is_taken_from_the_compiler_where_it_knows_it():
    known = PROGRAM.replace(
        'op_name="jit(_fun)/while"}',
        'op_name="jit(_fun)/while"}, backend_config={"known_trip_count":{"n":"5"}}',
    )
    assert known != PROGRAM
    assert hlo.summarize(known).cycles == 1007 + 5 * 100


def test_a_loop_of_unknown_length_is_an_error_unless_nothing_in_it_counts():
    unsigned = "u32[] constant(4)"
    assert hlo.summarize(PROGRAM.replace("s32[]{:T(256)} constant(3)", unsigned)).cycles == 1407
    unknown = PROGRAM.replace("constant(3)", "get-tuple-element(%param.1), index=2")
    with pytest.raises(ValueError, match=r"loop with condition condition\.2"):
        hlo.summarize(unknown)
    body = unknown[unknown.index("%body.2 (") : unknown.index("%condition.2 (")]
    idle = body.replace("estimated_cycles", "other").replace("all-reduce(", "add(")
    idle = idle.replace("calls=%fused_computation.3", "calls=%fused_computation.1")
    idle = idle.replace("all-gather(", "add(")
    assert hlo.summarize(unknown.replace(body, idle)).cycles == 1007


def test_groups_may_be_written_as_an_iota():
    grouped = PROGRAM.replace("[1,8]<=[8]", "[2,4]<=[8]")
    found = hlo.summarize(grouped)
    assert found.all_reduced_bytes == ALL - 10
    assert found.group_reduced_bytes == 3 * GROUPED + 10


def test_text_that_is_no_program_is_an_error():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.summarize("HloModule jit__fun\n")


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[3,5]{1,0:T(8,128)}", 60),
        ("bf16[64,130,130,32]{0,3,2,1:T(8,128)(2,1)}", 2 * 64 * 130 * 130 * 32),
        ("s32[]{:T(256)}", 4),
        ("pred[7]{0}", 7),
        ("f8e4m3fn[6]{0}", 6),
        ("s4[3]{0}", 2),
        ("(f32[2]{0}, /*index=1*/u8[3]{0}, token[])", 11),
    ],
)
def test_sizes_of_shapes(shape, size):
    assert hlo.num_bytes(shape) == size


@pytest.mark.parametrize(
    ("message", "used", "limit"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (40.25G) exceeds available HBM (15.48G).",
            40.25,
            15.48,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 17.17G of 15.48G hbm. Exceeded hbm capacity by 1.69G.",
            17.17,
            15.48,
        ),
    ],
)
def test_a_refusal_names_what_is_used_and_the_limit(message, used, limit):
    found = topology.Exceeded.parse(message)
    assert found.used_bytes == pytest.approx(used * 2**30)
    assert found.limit_bytes == pytest.approx(limit * 2**30)


def test_another_error_is_no_refusal():
    assert topology.Exceeded.parse("INTERNAL: 40G of bugs (2.0G)") is None


def test_allocated_memory_is_that_of_the_default_space():
    report = (
        "Memory Space: host (color=5)\nTotal bytes: 7 (7B)\n\n"
        "Memory Space: default (color=0)\nTotal bytes: 36893696 (35.18MiB)\n"
        "  cumulative_size;       size;       offset; used_by_n_values; shapes_list\n"
    )
    assert analysis.allocated_bytes(report) == 36_893_696
    with pytest.raises(ValueError, match="no total"):
        analysis.allocated_bytes(report[:60])


def test_without_libtpu_the_error_says_how_to_install_it(monkeypatch):
    config = cli.read_config("configs/digits.py:depth=8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .*\[tpu-compile\]"):
        tpu_compiler.analyse(config, "v3:2x2")


def convolutions(lowered):
    return lowered.as_text().count("stablehlo.convolution(")


def test_the_step_has_the_teachers_forward_pass(tmp_path):
    cpu = topology.Topology("cpu", (jax.devices()[0],), None, 0)
    folder = tmp_path / "teacher"
    # No map is smaller than a kernel, which would be a matrix product on CPU.
    plain = digits_config(tmp_path, data__image_size=16)
    taught = digits_config(tmp_path, data__image_size=16, distillation__teacher=str(folder))
    with pytest.raises(ValueError, match=r"distillation\.teacher=.*/teacher.* holds no run"):
        analysis.lower(taught, cpu)
    # A folder that says what the teacher is; its weights are not needed.
    manifest = Run.from_config(plain).method.manifest
    Workdir(folder).describe(plain, manifest)
    without, _ = analysis.lower(plain, cpu)
    with_teacher, _ = analysis.lower(taught, cpu)
    # The teacher's forward pass, and no gradient of it: every kernel once.
    kernels = sum(len(tensor.shape) == 4 for tensor in manifest.tensors)
    assert convolutions(with_teacher) == convolutions(without) + kernels


def test_configs_are_read_with_their_overrides():
    config = cli.read_config("configs/digits.py:depth=8,method=dense --config.data.batch_size=64")
    assert (config.model.name, config.data.batch_size) == ("cifar_resnet8", 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configs/digits.py --config.data.batch_sise=64", "batch_sise"),
        ("configs/digits.py data.batch_size=64", "data.batch_size=64 is not an override"),
        ("configs/none.py", "none.py"),
    ],
)
def test_mistakes_in_configs_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        cli.read_config(text)


ROW = tpu_compiler.Analysis(
    digest="a",
    libtpu="0.0.42",
    topology="v3:4x4",
    cores=32,
    batch_size=2048,
    batch_per_core=64,
    parts=2,
    num_variables=1_000_000,
    num_weights=5_000_000,
    fits=True,
    memory_bytes=3 * 2**30,
    limit_bytes=15 * 2**30,
    compile_seconds=99.4,
    all_reduces=3,
    all_reduced_bytes=4_200_000,
    group_reduced_bytes=0,
    irregular=18_000_000,
)
COMPLETE = dataclasses.replace(
    ROW, code_bytes=2**20, flops=5e11, bytes_accessed=3e10, cycles=2 * 10**8, samples_per_second=9e3
)


@pytest.fixture
def compiled(monkeypatch):
    """Stands for the compiler: programs by name of the config, and what was compiled."""
    done = []

    def analyse(config, topology_name, *, memory_only, known):
        digest = config.data.name
        if (earlier := known(digest)) is not None:
            return earlier
        done.append((digest, memory_only))
        return dataclasses.replace(ROW if memory_only else COMPLETE, digest=digest)

    monkeypatch.setattr(results, "analyse", analyse)
    return done


def test_what_is_known_is_not_compiled_again(tmp_path, compiled):
    digits = cli.read_config("configs/digits.py")
    cifar10 = cli.read_config("configs/cifar10.py")
    path = tmp_path / "results" / "tpu.json"
    first = tpu_compiler.Results(path)
    row = first.add("digits", digits, "v3:4x4", memory_only=True)
    # A later call resumes from the file.
    later = tpu_compiler.Results(path)
    assert later.add("the same", digits, "v3:4x4", memory_only=True) == row
    assert compiled == [("digits", True)]
    # Memory alone does not serve who asks for more, but more serves who asks for memory alone.
    complete = later.add("digits", digits, "v3:4x4")
    assert later.add("digits", digits, "v3:4x4", memory_only=True) == complete
    later.add("digits", cifar10, "v3:4x4")
    assert compiled == [("digits", True), ("digits", False), ("cifar10", False)]
    rows = json.loads(path.read_text())["rows"]
    assert set(rows) == {"digits v3:4x4", "the same v3:4x4"}
    assert rows["digits v3:4x4"]["digest"] == "cifar10"


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "tpu.json"
    path.write_text('{"rows": {"one": {"digest": "a"}}}')
    with pytest.raises(ValueError, match="is not a file of analyses"):
        tpu_compiler.Results(path)
    assert "digest" in path.read_text()


def test_the_table_shows_what_is_known_and_marks_the_rest():
    lines = tpu_compiler.table({"a": COMPLETE, "b": ROW}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    complete, memory_only = (line.split(" | ") for line in lines[2:])
    assert complete[2] == memory_only[2] == "64 in 2 parts"
    assert complete[4:7] == ["3.00", "15.00", "12.00"]
    assert memory_only[4:7] == ["~3.00", "15.00", "~12.00"]
    assert complete[7:] == [
        *("500.00", "30.00", "4.20", "4.00", "20.00", "200.00", "9,000"),
        "99 |",
    ]
    assert memory_only[7:9] == ["-", "-"]
    assert memory_only[12] == "-"


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed; it comes with the extra 'tpu-compile'",
)
SMALL = "configs/digits.py:depth=8,target_size=15000"


@pytest.mark.slow
@needs_libtpu
def test_newer_slices_have_a_device_per_chip(run_python):
    code = (
        "from benchmarks import tpu_compile; from smh_jax.tpu_compiler import topology\n"
        "for name in tpu_compile.NEWER_TOPOLOGIES:\n"
        "    found = topology.find(name); print(len(found.devices), found.memory_bytes // 2**30)"
    )
    printed = run_python("-c", code, anew=True).stdout
    assert printed.split() == ["16", "30", "16", "15", "16", "95", "16", "31"]


@pytest.mark.slow
@needs_libtpu
def test_a_small_step_compiles():
    config = cli.read_config(SMALL)
    row = tpu_compiler.analyse(config, "v3:2x2")
    assert row.fits
    assert row.cores == 8
    assert row.batch_per_core == config.data.batch_size // 8
    assert 15 * 2**30 < row.limit_bytes < 16 * 2**30
    assert row.flops > 2 * row.batch_per_core * 1e5
    assert row.cycles > 10_000
    assert row.samples_per_second == pytest.approx(config.data.batch_size * 940e6 / row.cycles)
    # The gradient of the variables, the statistics of batch norm, and a few metrics.
    assert 4 * row.num_variables < row.all_reduced_bytes < 4 * row.num_variables + 20_000
    assert row.all_reduced_bytes < 0.5 * 4 * row.num_weights
    # The same program is not compiled again, and its memory is known without its code.
    assert tpu_compiler.analyse(config, "v3:2x2", known={row.digest: row}.get) is row
    memory = tpu_compiler.analyse(config, "v3:2x2", memory_only=True)
    assert memory.digest == row.digest
    assert memory.cycles is None
    assert memory.memory_bytes - analysis.CODE_BYTES == row.memory_bytes - row.code_bytes
    assert memory.all_reduced_bytes == row.all_reduced_bytes


@pytest.mark.slow
@needs_libtpu
def test_a_step_that_does_not_fit_says_by_how_much():
    config = cli.read_config(
        f"{SMALL} --config.data.batch_size=8000000 --config.data.image_size=32"
    )
    row = tpu_compiler.analyse(config, "v3:2x2", memory_only=True)
    assert not row.fits
    assert row.memory_bytes > row.limit_bytes


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "topology_name", "message"),
    [
        ("--config.data.batch_size=100", "v3:2x2", "not divisible by the 8 devices"),
        ("", "v3:nonsense", "topology='v3:nonsense'"),
    ],
)
def test_what_cannot_be_compiled_is_an_error(overrides, topology_name, message):
    config = cli.read_config(f"{SMALL} {overrides}")
    with pytest.raises(ValueError, match=message):
        tpu_compiler.analyse(config, topology_name)


def test_the_command_tells_mistakes_in_one_line(run_python):
    done = run_python(
        "-m", "scripts.compile_for_tpu", "--config=configs/digits.py:depht=8", check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_the_report_has_what_is_compiled_beside_the_papers_numbers():
    rows = {
        config: dataclasses.replace(COMPLETE, cycles=cycles)
        for (_, _, config), cycles in zip(
            tpu_compile.table1(), range(10**8, 10**9, 10**8), strict=False
        )
    }
    rows[tpu_compile.efficientnet("b4", 5_000_000)] = ROW
    rows["configs/imagenet_resnet.py:method=dense v5e:4x4"] = ROW
    text = tpu_compile.report(rows)
    assert text.count("| ResNet-50, dense") == text.count("| ResNet-50, dense on v5e:4x4 |") == 1
    assert "| SMH" not in text
    (smh,) = (line for line in text.splitlines() if line.startswith("| smh") and "6,060" in line)
    assert "| 2.000 | 18.0 |" in smh
    assert text.count("| B4 at 5.0M |") == 1
    assert "| B3 at" not in text


def test_the_report_says_what_a_spread_model_needs_on_each_slice():
    rows = {}
    for (_, slice_name), config in tpu_compile.SPREAD.items():
        name = config if slice_name == tpu_compile.TOPOLOGY else f"{config} {slice_name}"
        rows[name] = dataclasses.replace(COMPLETE, all_gathered_bytes=7 * 10**6)
    lines = [line for line in tpu_compile.report(rows).splitlines() if ", v3:4x4 |" in line]
    lines += [line for line in tpu_compile.report(rows).splitlines() if ", v5p:2x2x4 |" in line]
    assert len(lines) == len(tpu_compile.SPREAD) == len(rows)
    shared = [line.split(" | ")[2] for line in lines if "spread" in line]
    assert shared == [*["8"] * 3, *["4"] * 3]
    assert all(" | 7 | " in line for line in lines)


@pytest.mark.parametrize(
    "config",
    [
        *tpu_compile.FAMILIES.values(),
        *(config for _, _, config in tpu_compile.table1()),
        *tpu_compile.LARGEST.values(),
        *tpu_compile.NEWER.values(),
        *tpu_compile.SPREAD.values(),
    ],
)
def test_configs_of_the_benchmark_are_read(config):
    assert cli.read_config(config).data.name == "imagenet2012"
