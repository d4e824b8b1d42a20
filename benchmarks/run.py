"""All benchmarks: python -m benchmarks.run [--only=materialize,memory] [--cases=REGEX]

Each of benchmarks/benchmarks.toml writes a JSON file, a Markdown table and a picture to
benchmarks/results/; with --redraw, tables and pictures are made anew of what the files have. Cases
that were measured before stay in the files until they are measured again, so that a long benchmark
can be run in parts.
"""

import json
import os
import pathlib
import re
import sys
import time

from absl import flags

from benchmarks.benchmark import HUGE_PAGES, Benchmark, Row, load
from smh_jax import cli
from smh_jax.config.files import write_json, write_text
from smh_jax.config.names import check_known

BENCHMARKS = load()
RESULTS = pathlib.Path(__file__).parent / "results"
# What is committed, and what the pages quote, are the cases themselves.
SMALL_RESULTS = pathlib.Path("build") / "benchmarks"

# Other commands have flags of these names; tests import several into one process.
ONLY = flags.DEFINE_list("only", list(BENCHMARKS), "Which benchmarks.", allow_override=True)
CASES = flags.DEFINE_string("cases", "", "Regular expression of the cases; '' is all of them.")
SMALL = flags.DEFINE_bool("small", False, "Cases of seconds instead, to see that all of it runs.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each candidate.", lower_bound=1)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder of results; by default benchmarks/results, of small cases build/benchmarks.",
    allow_override=True,
)
REDRAW = flags.DEFINE_bool("redraw", False, "Measure nothing; write tables and pictures anew.")
LIST = flags.DEFINE_bool("list", False, "Only print the cases.")


def main(_: list[str]) -> None:
    """Measures, writes and prints."""
    cli.require("matplotlib", "plot")
    for name in ONLY.value:
        check_known(f"--only={name}", name, BENCHMARKS)
    try:
        pattern = re.compile(CASES.value)
    except re.error as error:
        raise ValueError(f"--cases={CASES.value} is not a regular expression: {error}") from error
    chosen = [
        (BENCHMARKS[name], case)
        for name in ONLY.value
        for case in (BENCHMARKS[name].small_cases if SMALL.value else BENCHMARKS[name].cases)
        if pattern.search(case)
    ]
    if LIST.value or not chosen:
        for benchmark in BENCHMARKS.values():
            print(f"{benchmark.name}: {benchmark.question}\n  {' '.join(benchmark.cases)}")
        if not LIST.value:
            raise ValueError(f"--cases={CASES.value} matches no case of {', '.join(ONLY.value)}")
        return
    output = pathlib.Path(OUTPUT.value or (SMALL_RESULTS if SMALL.value else RESULTS))
    if REDRAW.value:
        for name in ONLY.value:
            report(output, BENCHMARKS[name])
        return
    # It takes seconds to load, which a mistake in the flags need not wait for.
    import jax

    output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    for done, (benchmark, case) in enumerate(chosen):
        seconds = (time.monotonic() - begin) * (len(chosen) - done) / max(done, 1)
        left = f", {seconds:.0f} s left" if done else ""
        print(f"[{done + 1}/{len(chosen)}{left}] {benchmark.name} {case}", flush=True)
        write(output, benchmark, case, benchmark.measure(case, REPEATS.value), REPEATS.value)
        jax.clear_caches()
    for name in dict.fromkeys(benchmark.name for benchmark, _ in chosen):
        print((output / f"{name}.md").read_text())


def write(
    output: pathlib.Path, benchmark: Benchmark, case: str, rows: list[Row], repeats: int
) -> None:
    """Adds a case's rows to the benchmark's files."""
    from benchmarks import timing

    path = output / f"{benchmark.name}.json"
    cases = json.loads(path.read_text())["cases"] if path.exists() else {}
    cases[case] = {"machine": timing.machine(), "repeats": repeats, "rows": rows}
    order = [*benchmark.cases, *cases]
    cases = {name: cases[name] for name in sorted(cases, key=order.index)}
    write_json(path, {"cases": cases, "question": benchmark.question})
    report(output, benchmark)


def report(output: pathlib.Path, benchmark: Benchmark) -> None:
    """Writes the table and the picture of what the benchmark's file has.

    Raises:
        ValueError: if there is no such file.
    """
    from benchmarks import timing

    path = output / f"{benchmark.name}.json"
    if not path.exists():
        raise ValueError(f"{path} is missing: measure {benchmark.name} first")
    cases = json.loads(path.read_text())["cases"]
    results = {name: entry["rows"] for name, entry in cases.items()}
    machines = timing.describe(entry["machine"] for entry in cases.values())
    write_text(
        path.with_suffix(".md"),
        f"# {benchmark.question}\n\nMeasured on: {machines}. Medians.\n\n"
        f"{benchmark.table(results)}\n",
    )
    if benchmark.curves or benchmark.dots:
        # Matplotlib is loaded only where it is needed.
        from benchmarks import plots

        repeats = sorted({entry["repeats"] for entry in cases.values()})
        calls = " to ".join(str(number) for number in dict.fromkeys((repeats[0], repeats[-1])))
        caption = f"Medians of {calls} interleaved calls, no error bars. Measured on: {machines}."
        plots.save(benchmark, results, path, caption)


def _use_huge_pages() -> None:
    """Starts this program again with a C library that asks for huge pages.

    Results are allocated anew; in small pages their page faults take as long as computing them.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
        environment = os.environ | {name: HUGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


if __name__ == "__main__":
    _use_huge_pages()
    cli.run(main, keeps_programs=False)
