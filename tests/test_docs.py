"""The code on the pages for people runs."""

import re

import pytest

from tests.conftest import ROOT


def code_of(page: str) -> str:
    """The Python blocks of a page of docs, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S))


# Those of the artifact need a file: tests/test_artifact.py.
PAGES = sorted(
    path.name
    for path in (ROOT / "docs").glob("*.md")
    if "```python\n" in path.read_text() and path.name != "artifact.md"
)


# Some add something to the package, which other tests of the same process would see.
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, run_python):
    code = code_of(page)
    assert code.count("assert") >= 1
    run_python("-c", code)
