"""All benchmarks: python -m benchmarks.run [--only=materialize,memory] [--cases=REGEX]

Each writes a JSON file, a Markdown table and a plot to benchmarks/results/. Cases that were
measured before stay in the files until they are measured again, so that a long benchmark can be
run in parts. `python -m benchmarks.readme` brings the README's table up to date.
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
from benchmarks.piece import Piece, Row
from smh_jax import cli

PIECES = {
    piece.name: piece
    for piece in (
        *(materialize.PIECE, training_step.PIECE, memory.PIECE, inference.PIECE),
        *(start_up.PIECE, data_wait.PIECE, scaling.PIECE),
    )
}
RESULTS = pathlib.Path(__file__).parent / "results"

# Other commands have flags of these names; tests import several into one process.
ONLY = flags.DEFINE_list("only", list(PIECES), "Which benchmarks.", allow_override=True)
CASES = flags.DEFINE_string("cases", "", "Regular expression of the cases; '' is all of them.")
SMALL = flags.DEFINE_bool("small", False, "Cases of seconds instead, to see that all of it runs.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each candidate.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "Folder of results.", allow_override=True)
LIST = flags.DEFINE_bool("list", False, "Only print the cases.")


def main(_: list[str]) -> None:
    """Measures, writes and prints."""
    cli.require("matplotlib", "plot")
    unknown = [name for name in ONLY.value if name not in PIECES]
    if unknown:
        raise ValueError(f"--only={unknown[0]} is unknown; the benchmarks are {', '.join(PIECES)}")
    chosen = [
        (PIECES[name], case)
        for name in ONLY.value
        for case in (PIECES[name].small_cases if SMALL.value else PIECES[name].cases)
        if re.search(CASES.value, case)
    ]
    if LIST.value or not chosen:
        for piece in PIECES.values():
            print(f"{piece.name}: {piece.question}\n  {' '.join(piece.cases)}")
        if not LIST.value:
            raise ValueError(f"--cases={CASES.value} matches no case of {', '.join(ONLY.value)}")
        return
    output = pathlib.Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    for done, (piece, case) in enumerate(chosen):
        print(f"[{done + 1}/{len(chosen)}{_eta(begin, done, len(chosen))}] {piece.name} {case}")
        sys.stdout.flush()
        write(output, piece, case, piece.measure(case, REPEATS.value), REPEATS.value)
        jax.clear_caches()
    for name in dict.fromkeys(piece.name for piece, _ in chosen):
        print((output / f"{name}.md").read_text())


def _eta(begin: float, done: int, total: int) -> str:
    if not done:
        return ""
    return f", {(time.monotonic() - begin) * (total - done) / done:.0f} s left"


def write(output: pathlib.Path, piece: Piece, case: str, rows: list[Row], repeats: int) -> None:
    """Adds a case's rows to the piece's files."""
    path = output / f"{piece.name}.json"
    content = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    content["question"] = piece.question
    content["cases"][case] = {"machine": timing.machine(), "repeats": repeats, "rows": rows}
    order = [*piece.cases, *content["cases"]]
    content["cases"] = dict(sorted(content["cases"].items(), key=lambda item: order.index(item[0])))
    path.write_text(json.dumps(content, indent=1) + "\n")
    results = {name: entry["rows"] for name, entry in content["cases"].items()}
    machines = {
        ", ".join(f"{key} {value}" for key, value in entry["machine"].items())
        for entry in content["cases"].values()
    }
    (output / f"{piece.name}.md").write_text(
        f"# {piece.question}\n\nMeasured on: {'; '.join(sorted(machines))}. Medians.\n\n"
        f"{piece.table(results)}\n"
    )
    if piece.plot is not None:
        piece.plot(results, output / f"{piece.name}.png")


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
