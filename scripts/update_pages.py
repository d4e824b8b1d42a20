"""Fills the figures of README and docs from the committed results, and draws the README's chart.

python -m scripts.update_pages

A page has its figures between `<!-- results: NAME -->` and `<!-- end -->`, where NAME is one of
`page_tables.TABLES`. What stands there is written anew; nothing else of the page is touched.
"""

import pathlib
import re

from absl import flags

from smh_jax import cli

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CHART = ROOT / "docs" / "images" / "accuracy_against_size.svg"
_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

CHECK = flags.DEFINE_bool("check", False, "Write nothing; name the pages that are out of date.")


def filled(text: str) -> str:
    """A page with its figures as the committed results have them.

    Raises:
        ValueError: for a name that no table has.
    """
    from scripts.page_tables import TABLES
    from smh_jax.config.names import check_known

    def fill(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        check_known(f"results: {name}", name, TABLES)
        return f"{begin}\n{TABLES[name]()}\n\n{end}"

    return _BLOCK.sub(fill, text)


def main(_: list[str]) -> None:
    """Writes what has changed and names it."""
    cli.require("matplotlib", "plot")
    from scripts import overview_chart
    from smh_jax.config.files import write_text

    changed = {
        page: text for page in PAGES if (text := filled(page.read_text())) != page.read_text()
    }
    chart = overview_chart.draw_svg()
    if not CHART.exists() or CHART.read_text() != chart:
        changed[CHART] = chart
    names = ", ".join(str(path.relative_to(ROOT)) for path in changed)
    if CHECK.value:
        if changed:
            raise ValueError(f"{names}: out of date; python -m scripts.update_pages writes them")
        return
    for path, text in changed.items():
        write_text(path, text)
    print(f"written: {names}" if changed else "all pages are up to date")


if __name__ == "__main__":
    cli.run(main)
