"""Brings the README's table of performance up to date: python -m benchmarks.readme

The lines between `<!-- performance -->` and `<!-- /performance -->` are written from the files in
benchmarks/results/; everything else stays.
"""

import json
import pathlib
import re

from absl import flags

from benchmarks.benchmark import Row
from experiments import markdown
from smh_jax import cli
from smh_jax.config.files import write_text

ROOT = pathlib.Path(__file__).parents[1]
README = flags.DEFINE_string("readme", str(ROOT / "README.md"), "File to rewrite.")
RESULTS = flags.DEFINE_string("results", str(ROOT / "benchmarks" / "results"), "What to read.")
CHECK = flags.DEFINE_bool("check", False, "Change nothing; fail if the README is out of date.")

METHODS = ("smh", "smh, 4 blocks", "1 hash", "2 hashes", "10 hashes")
BEGIN, END = "<!-- performance -->", "<!-- /performance -->"


def section(results: pathlib.Path) -> str:
    """The Markdown text of the results that are there."""
    parts = []
    for title, name, key in (
        ("Generating all weights, forward + backward, in multiples of the bare matrix products",
         "materialize", "forward_backward_ratio"),
        ("Training step, in multiples of dense", "training_step", "ratio"),
    ):  # fmt: skip
        lines = []
        for rows in _cases(results, name).values():
            values = {row["method"]: f"{row[key]:.2f}" for row in rows}
            lines.append([_name(rows[0]), *(values.get(method, "") for method in METHODS)])
        if lines:
            table = markdown.table(["", *METHODS], lines)
            parts.append(f"{title} (`benchmarks/results/{name}.md`):\n\n{table}")
    lines = [
        [
            *(row["model"], f"{row['target_size'] / 1e6:.1f}M", row["method"]),
            *(f"{row['ratio']:.2f}", f"{row['memory_ratio']:.2f}"),
        ]
        for rows in _cases(results, "inference").values()
        for row in rows
        if row["method"] != "unpacked"
    ]
    if lines:
        headings = ("one image", "target", "form", "latency x unpacked", "memory x unpacked")
        parts.append(
            "Inference that generates weights on the fly, batch 1 "
            "(`benchmarks/results/inference.md`):\n\n"
            + markdown.table(headings, lines, text=(0, 2))
        )
    return "\n\n".join(parts)


def _cases(results: pathlib.Path, name: str) -> dict[str, list[Row]]:
    path = results / f"{name}.json"
    if not path.exists():
        return {}
    return {case: entry["rows"] for case, entry in json.loads(path.read_text())["cases"].items()}


def _name(row: Row) -> str:
    if "batch_size" in row:
        return f"{row['model']}, {row['side']} pixels, batch {row['batch_size']}"
    return f"{row['model']} at {row['target_size'] / 1e6:.1f}M"


def rewritten(readme: str, text: str) -> str:
    """The README with the text between the markers.

    Raises:
        ValueError: unless there is exactly one pair of markers.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(readme)) != 1:
        raise ValueError(f"the README must have one {BEGIN} and one {END} after it")
    return pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", readme)


def main(_: list[str]) -> None:
    """Rewrites, or checks."""
    path = pathlib.Path(README.value)
    before = path.read_text()
    after = rewritten(before, section(pathlib.Path(RESULTS.value)))
    if CHECK.value and after != before:
        raise ValueError(f"{path} is out of date: run python -m benchmarks.readme")
    if not CHECK.value:
        write_text(path, after)


if __name__ == "__main__":
    cli.run(main)
