"""The README's example runs, and what it names exists."""

import re

import pytest

from smh_jax import cli
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_example_runs(run_python):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = run_python("-c", example, anew=True)
    size, shape = done.stdout.split(maxsplit=1)
    assert 46_000 < int(size) <= 46_662
    assert shape.strip() == "(2, 10)"


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:configs|scripts)/\w+\.(?:py|sh)", README)))
)
def test_files_that_it_names_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_modules_that_it_names_exist(module):
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize(
    "config", sorted(set(re.findall(r"--config=(configs/[^\s`]+(?: --config\.[^\s`]+)*)", README)))
)
def test_configs_that_it_names_resolve(config):
    described = cli.read_config(config)
    for argument in filter(None, config.split(" ")[0].partition(":")[2].split(",")):
        name, value = argument.split("=")
        found = {
            "method": described.method.name,
            "target_size": described.method.target_size,
            "hashed": described.method.hashed,
        }
        assert str(found[name]) == value
