"""The code on the pages for people runs."""

import re

import pytest

from tests.conftest import ROOT


def code_of(page: str) -> str:
    """The Python blocks of a page of docs, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S))


PAGES = sorted(
    path.name
    for path in (ROOT / "docs").glob("*.md")
    if "```python\n" in path.read_text() and path.name != "artifact.md"
)


# Some add something to the package, which other tests of the same process would see.
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.slow
def test_the_code_of_a_page_runs(page, run_python):
    code = code_of(page)
    assert code.count("assert") >= 1
    run_python("-c", code)


# What the page's commands write, and the names that its reader has.
_FILES = """
import os
import flax.linen as nn
import jax
import numpy as np
import smh_jax
from smh_jax.shipping import onnx, stablehlo
from tests import artifacts

os.chdir({folder!r})
artifact = artifacts.make("smh")
smh_jax.save("model.smh", artifact)
open("model.onnx", "wb").write(onnx.export(artifact))
open("model.stablehlo", "wb").write(stablehlo.export(artifact))
images = artifacts.images(2)
inputs = (np.ones((2, 16), np.float32),)
compressed = smh_jax.compress(nn.Dense(30), *inputs, target_size=200)
collections = compressed.init(jax.random.key(0), *inputs)
# The first block is given pixels, the others images that are preprocessed.
preprocessed, images = images, np.zeros(images.shape, np.uint8)
"""


@pytest.mark.slow
def test_the_code_of_the_page_of_artifacts_runs(run_python, tmp_path):
    code = code_of("artifact.md")
    code = code.replace("import jax.export", "import jax.export\n\nimages = preprocessed", 1)
    check = "np.testing.assert_allclose(logits, program.call(images), 1e-4, 1e-4)\n"
    check += "assert outputs.shape == (2, 30) and probabilities.shape[0] == 2\n"
    run_python("-c", _FILES.format(folder=str(tmp_path)) + code + check)
