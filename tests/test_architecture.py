"""Who may import whom: the arrows of the README's map."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What each part may import of the others; what is not listed may import nothing of ours.
ALLOWED = {
    "smh_jax.main": {"cli", "processes", "train"},
    "smh_jax.inspect": {"cli", "config", "manifest", "models", "run"},
    "smh_jax.convert": {"arguments", "cli", "config", "conversion", "methods"},
    "smh_jax.plot": {"cli", "figures", "manifest", "methods", "trained"},
    "smh_jax.figures": {"manifest"},
    "smh_jax.conversion": {
        *("checkpoint", "config", "manifest", "methods", "monitor", "params_file", "program"),
        *("run", "trained", "workdir"),
    },
    "smh_jax.cli": {"config", "errors", "processes"},
    "smh_jax.train": {
        *("checkpoint", "config", "data", "metrics", "monitor", "parallel", "processes"),
        *("program", "run", "step", "trained", "workdir"),
    },
    "smh_jax.trained": {
        *("checkpoint", "config", "distillation", "manifest", "methods", "program", "run"),
        *("step", "workdir"),
    },
    "smh_jax.monitor": {"checkpoint", "errors", "metrics", "parallel"},
    "smh_jax.program": {"distillation", "metrics", "optim", "parallel", "run", "step"},
    "smh_jax.run": {"config", "data", "losses", "manifest", "methods", "models", "parallel"},
    "smh_jax.tpu_compiler": {"config", "parallel", "program", "run", "workdir"},
    "smh_jax.workdir": {"config", "manifest"},
    "smh_jax.checkpoint": {"errors", "step"},
    "smh_jax.processes": {"errors"},
    "smh_jax.step": {
        *("artifact", "config", "distillation", "losses", "manifest", "methods", "metrics"),
        "parallel",
    },
    "smh_jax.losses": {"manifest", "methods"},
    "smh_jax.optim": {"config", "methods"},
    "smh_jax.metrics": {"parallel"},
    "smh_jax.methods": {"arguments", "manifest"},
    "smh_jax.export": {"artifact", "cli", "shipping"},
    "smh_jax.predict": {"artifact", "cli", "shipping"},
    "smh_jax.shipping": {
        *("artifact", "config", "data", "trained", "workdir"),
    },
    "smh_jax.artifact": {"losses", "manifest", "methods", "models", "on_the_fly"},
    "smh_jax.width_multiplier": {"manifest", "models"},
    "smh_jax.on_the_fly": {"manifest", "methods"},
    "smh_jax.manifest": {"initial_values"},
}


def part(module: str) -> str:
    """The part of the project that a module belongs to: smh_jax.methods.smh is of methods."""
    return ".".join(module.split(".")[:2])


def imports(path: pathlib.Path) -> set[str]:
    """The parts of smh_jax that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "smh_jax":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("smh_jax."):
                found.add(node.module.split(".")[1])
            elif node.module.split(".")[0] in ("configs", "experiments", "tests", "scripts"):
                found.add(node.module)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("smh_jax."):
                    found.add(alias.name.split(".")[1])
    return found


FILES = sorted((ROOT / "smh_jax").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "smh_jax":
        return
    of = part(module)
    own = of.split(".")[1]
    assert imports(path) - {own} <= ALLOWED.get(of, set())


def test_the_arrows_have_no_circle():
    def reach(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, " -> ".join((*seen, name))
        for other in ALLOWED.get(f"smh_jax.{name}", set()):
            reach(other, (*seen, name))

    for module in ALLOWED:
        reach(module.split(".")[1], ())


def test_imports_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from smh_jax import train\nfrom smh_jax.data import load\nimport smh_jax.step\n"
    )
    assert imports(path) == {"train", "data", "step"}


def test_pmap_is_named_in_one_module():
    names = {path.name for path in FILES if "pmap" in path.read_text()}
    assert names == {"parallel.py"}
