"""All benchmarks: python -m benchmarks.run [--only=materialize,memory] [--cases=REGEX]

Each writes a JSON file, a Markdown table and a plot to benchmarks/results/. Cases that were
measured before stay in the files until they are measured again, so that a long benchmark can be
run in parts.
"""

import json
import os
import pathlib
import re
import sys
import time

import jax
from absl import flags

from benchmarks import (
    data_wait,
    inference,
    materialize,
    memory,
    scaling,
    start_up,
    timing,
    training_step,
)
from benchmarks.benchmark import Benchmark, Row
from smh_jax import cli
from smh_jax.config.files import write_json, write_text
from smh_jax.config.names import check_known

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        *(materialize.BENCHMARK, training_step.BENCHMARK, memory.BENCHMARK, inference.BENCHMARK),
        *(start_up.BENCHMARK, data_wait.BENCHMARK, scaling.BENCHMARK),
    )
}
RESULTS = pathlib.Path(__file__).parent / "results"

# Other commands have flags of these names; tests import several into one process.
ONLY = flags.DEFINE_list("only", list(BENCHMARKS), "Which benchmarks.", allow_override=True)
CASES = flags.DEFINE_string("cases", "", "Regular expression of the cases; '' is all of them.")
SMALL = flags.DEFINE_bool("small", False, "Cases of seconds instead, to see that all of it runs.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each candidate.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "Folder of results.", allow_override=True)
LIST = flags.DEFINE_bool("list", False, "Only print the cases.")


def main(_: list[str]) -> None:
    """Measures, writes and prints."""
    cli.require("matplotlib", "plot")
    for name in ONLY.value:
        check_known(f"--only={name}", name, BENCHMARKS)
    chosen = [
        (BENCHMARKS[name], case)
        for name in ONLY.value
        for case in (BENCHMARKS[name].small_cases if SMALL.value else BENCHMARKS[name].cases)
        if re.search(CASES.value, case)
    ]
    if LIST.value or not chosen:
        for benchmark in BENCHMARKS.values():
            print(f"{benchmark.name}: {benchmark.question}\n  {' '.join(benchmark.cases)}")
        if not LIST.value:
            raise ValueError(f"--cases={CASES.value} matches no case of {', '.join(ONLY.value)}")
        return
    output = pathlib.Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    for done, (benchmark, case) in enumerate(chosen):
        print(f"[{done + 1}/{len(chosen)}{_eta(begin, done, len(chosen))}] {benchmark.name} {case}")
        sys.stdout.flush()
        write(output, benchmark, case, benchmark.measure(case, REPEATS.value), REPEATS.value)
        jax.clear_caches()
    for name in dict.fromkeys(benchmark.name for benchmark, _ in chosen):
        print((output / f"{name}.md").read_text())


def _eta(begin: float, done: int, total: int) -> str:
    if not done:
        return ""
    return f", {(time.monotonic() - begin) * (total - done) / done:.0f} s left"


def write(
    output: pathlib.Path, benchmark: Benchmark, case: str, rows: list[Row], repeats: int
) -> None:
    """Adds a case's rows to the benchmark's files."""
    path = output / f"{benchmark.name}.json"
    content = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    content["question"] = benchmark.question
    content["cases"][case] = {"machine": timing.machine(), "repeats": repeats, "rows": rows}
    order = [*benchmark.cases, *content["cases"]]
    content["cases"] = dict(sorted(content["cases"].items(), key=lambda item: order.index(item[0])))
    write_json(path, content)
    results = {name: entry["rows"] for name, entry in content["cases"].items()}
    machines = {
        ", ".join(f"{key} {value}" for key, value in entry["machine"].items())
        for entry in content["cases"].values()
    }
    write_text(
        path.with_suffix(".md"),
        f"# {benchmark.question}\n\nMeasured on: {'; '.join(sorted(machines))}. Medians.\n\n"
        f"{benchmark.table(results)}\n",
    )
    if benchmark.plot is not None:
        # Matplotlib is loaded only where it is needed.
        from benchmarks import plots

        plots.draw(benchmark.plot, results, path.with_suffix(".png"))


def _use_huge_pages() -> None:
    """Starts this program again with a C library that asks for huge pages.

    Every program allocates its results anew; in small pages the page faults of large ones take as
    long as computing them, and vary from call to call.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
        environment = os.environ | {name: timing.HUGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


if __name__ == "__main__":
    _use_huge_pages()
    cli.run(main)
