"""The benchmarks run, and their files hold what they say."""

import functools
import importlib.util
import json

import jax
import pytest

from benchmarks import materialize, peer, plots, run, scaling, training_step
from benchmarks.benchmark import Benchmark
from smh_jax import Manifest, cli, methods, models

# These start processes, which import and compile everything anew, or compile larger programs.
SLOW = (
    *("start_up", "scaling", "training_step", "inference", "memory", "peer", "input_pipeline"),
    "shared",
)


# Of the methods that are compared, those that are compiled here.
FEW = {materialize: ("smh", "2 hashes"), training_step: ("smh",)}


@pytest.fixture(scope="module")
def measured():
    """A function of a benchmark's name that gives the rows of its last small case."""

    @functools.cache
    def measure(name):
        case = run.BENCHMARKS[name].small_cases[-1]
        return {case: run.BENCHMARKS[name].measure(case, 1)}

    with pytest.MonkeyPatch.context() as patch:
        for module, few in FEW.items():
            patch.setattr(module, "METHODS", {label: module.METHODS[label] for label in few})
        # Each number of devices is a process that compiles everything.
        patch.setattr(scaling, "DEVICES", scaling.DEVICES[:2])
        yield measure


def test_every_method_that_is_compared_exists():
    model = models.create("cifar_resnet8", num_classes=10)
    manifest = Manifest.from_model(model, (1, 8, 8, 3), measure=False)
    fewer = set().union(*training_step.FEWER.values())
    assert fewer <= set(training_step.METHODS) < set(materialize.METHODS)
    for name, options in materialize.METHODS.values():
        method = methods.create(name, manifest, target_size=20_000, **options)
        params = jax.eval_shape(method.materialize, method.abstract_variables)
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == manifest.num_weights


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in run.BENCHMARKS
    ],
)
def test_every_benchmark_runs(name, measured, tmp_path):
    if name == "peer" and importlib.util.find_spec("torchvision") is None:
        pytest.skip("torch is not installed; it comes with the extra 'peer'")
    benchmark, results = run.BENCHMARKS[name], measured(name)
    (rows,) = results.values()
    assert rows
    for key, _, form in benchmark.columns:
        values = [row[key] for row in rows if row.get(key) is not None]
        assert values or (name, key) == ("start_up", "import_seconds")
        if form:
            assert all(value >= 0 for value in values)
    assert len(benchmark.table(results).splitlines()) == 2 + len(rows)
    if benchmark.curves or benchmark.dots:
        plots.save(benchmark, results, tmp_path / "plot.json", "Of a test.")
        assert (tmp_path / "plot.svg").exists()
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_ratios_are_of_the_reference(measured):
    (rows,) = measured("training_step").values()
    by_method = {row["method"]: row for row in rows}
    dense, smh = by_method["dense"], by_method["smh"]
    assert dense["ratio"] == 1.0
    # Of a single step.
    assert smh["ratio"] == pytest.approx(smh["seconds"] / dense["seconds"])
    assert smh["examples_per_second"] == pytest.approx(smh["batch_size"] / smh["seconds"])


@pytest.mark.parametrize("name", ["materialize", "training_step", "inference", "scaling", "peer"])
def test_committed_results_can_be_drawn_and_give_the_committed_table(name, monkeypatch, tmp_path):
    content = json.loads((run.RESULTS / f"{name}.json").read_text())
    results = {case: entry["rows"] for case, entry in content["cases"].items()}
    benchmark = run.BENCHMARKS[name]
    assert benchmark.table(results) in (run.RESULTS / f"{name}.md").read_text()
    drawn = []
    monkeypatch.setattr(plots.drawing, "draw", lambda panels, _: drawn.extend(panels))
    monkeypatch.setattr(plots.drawing, "encode", lambda *_: b"")
    plots.save(benchmark, results, tmp_path / "plot.json", "On a machine.")
    names = {series.name for panel in drawn for series in panel.series}
    names |= {level.name for panel in drawn for level in panel.levels}
    compared = {row["method"] for rows in results.values() for row in rows}
    assert {name.lower() for name in names} == {name.lower() for name in compared}
    assert all(panel.caption == "On a machine." for panel in drawn)


def fake_benchmark(value):
    return Benchmark(
        name="fake",
        question="What?",
        cases=("a", "b"),
        small_cases=("a",),
        measure=lambda case, repeats: [{"name": case, "value": value}],
        columns=(("name", "name", ""), ("value", "value", ".1f"), ("none", "none", ".1f")),
    )


def test_cases_that_are_not_measured_again_stay(tmp_path):
    for case, value in (("b", 1.0), ("a", 2.0), ("b", 3.25)):
        benchmark = fake_benchmark(value)
        run.write(tmp_path, benchmark, case, benchmark.measure(case, 5), repeats=5)
    content = json.loads((tmp_path / "fake.json").read_text())
    assert list(content["cases"]) == ["a", "b"]
    assert content["cases"]["b"]["rows"] == [{"name": "b", "value": 3.25}]
    assert content["cases"]["a"]["repeats"] == 5
    assert content["cases"]["a"]["machine"]["cores"] >= 1
    lines = (tmp_path / "fake.md").read_text().splitlines()
    assert lines[-2:] == ["| a | 2.0 |  |", "| b | 3.2 |  |"]


def test_all_reduced_bytes_are_counted():
    program = """
      %a = f32[10,20]{1,0} all-reduce(f32[10,20]{1,0} %x), replica_groups={}
      %b = (f32[3]{0}, bf16[2,2]{1,0}, /*index=2*/f32[]) all-reduce(%p, %q, %r), to_apply=%add
      %c = f32[1000]{0} add(%all-reduce.1, %b)
      ROOT %d = f32[7]{0} all-reduce-start(f32[7]{0} %y)
    """
    assert scaling.all_reduced_bytes(program) == 800 + (12 + 8 + 4) + 28


def test_a_missing_library_is_told_before_anything_is_measured():
    cli.require("json", "plot")
    with pytest.raises(ValueError, match=r"needs no_such_library: pip install 'smh_jax\[plot\]'"):
        cli.require("no_such_library", "plot")


def test_a_peer_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs torch: pip install 'smh_jax\[peer\]'"):
        peer.measure("training:resnet18:32:2:2", 1)


# TensorFlow and torchvision in one process may crash.
FEATHERMAP = """
import json, sys, torch
from benchmarks import feathermap
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(80, 7))
wanted = [tensor.shape for tensor in model.state_dict().values()]
torch.manual_seed(0)
compressed = feathermap.FeatherMap(model, 0.3).eval()
compressed.generate()
images = torch.randn(2, 3, 6, 6)
at_once = compressed(images)
product, size = compressed.v1 @ compressed.v2, 5 * 27 + 5 + 80 * 7 + 7
sizes = [*product.shape, *compressed.v1.shape, size]
first = model[0].weight / model[0].weight_p
last = model[3].bias / model[3].bias_p
places = [
    (first.flatten() - product.flatten()[: 5 * 27]).abs().max().item(),
    (last - product.flatten()[size - 7 : size]).abs().max().item(),
]
compressed.deploy()
per_layer = compressed(images)
print(json.dumps({
    "sizes": sizes, "places": places, "spread": at_once.std().item(),
    "difference": (at_once - per_layer).abs().max().item(), "kept": model[0].weight is not None,
}))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torch is not installed; it comes with the extra 'peer'",
)
def test_feathermaps_layers_are_slices_of_one_product(run_python):
    found = json.loads(run_python("-c", FEATHERMAP, anew=True).stdout)
    # 707 weights, a square of 27, and 0.3 * 27 / 2 columns.
    assert found["sizes"] == [27, 27, 27, 5, 707]
    assert max(found["places"]) < 1e-6
    assert found["spread"] > 0.01
    assert found["difference"] < 1e-5
    assert not found["kept"]
