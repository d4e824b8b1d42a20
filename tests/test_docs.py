"""The code on the pages for people runs."""

import re

import pytest

from tests.conftest import ROOT


def code_of(page: str) -> str:
    """The Python blocks of a page of docs, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S))


# Each adds something to the package, which other tests of the same process would see.
@pytest.mark.parametrize("page", ["add_a_method.md", "add_a_model.md", "add_a_dataset.md"])
def test_the_code_of_a_page_runs(page, run_python):
    code = code_of(page)
    assert code.count("assert") >= 1
    run_python("-c", code)
