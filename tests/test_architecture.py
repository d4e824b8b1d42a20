"""Who may import whom: arrows between the rooms of `smh_jax/` go down only, and in no circle."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "smh_jax"

# The floors of the house, top to bottom. A room imports rooms of lower floors and itself.
FLOORS = (
    {"commands"},
    {"shipping", "tpu_compiler"},
    {"training"},
    {"methods", "models"},
    {"manifest", "data"},
    {"config"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: pathlib.Path) -> str:
    """The dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def room_of(module: str) -> str:
    """The folder below smh_jax/ in which a module lies; 'commands' for those at its root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "commands"


def imports(path: pathlib.Path) -> set[str]:
    """The dotted names of this project's modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    ours = ("smh_jax", "configs", "experiments", "benchmarks", "tests", "scripts")
    return {name for name in found if name.split(".")[0] in ours}


def wrong_arrows(module: str, imported: set[str]) -> list[str]:
    """The imports that go up, sideways or out of the package."""
    floor = FLOOR_OF[room_of(module)]
    return [
        name
        for name in sorted(imported)
        # The package's own name and version are everyone's.
        if name != "smh_jax"
        and (
            not name.startswith("smh_jax.")
            or (room_of(name) != room_of(module) and FLOOR_OF[room_of(name)] <= floor)
        )
    ]


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_down_only(module):
    if module != "smh_jax":
        assert not wrong_arrows(module, imports(MODULES[module]))


def test_the_arrows_have_no_circle():
    graph = {module: imports(path) - {"smh_jax", module} for module, path in MODULES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_wrong_arrows_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from smh_jax import data, shipping\nfrom smh_jax.methods import smh\n"
        "def late():\n    import experiments.run\n"
    )
    found = imports(path)
    assert found == {"smh_jax.data", "smh_jax.shipping", "smh_jax.methods.smh", "experiments.run"}
    assert wrong_arrows("smh_jax.training.step", found) == ["experiments.run", "smh_jax.shipping"]
    assert wrong_arrows("smh_jax.models.layers", found) == [
        *("experiments.run", "smh_jax.methods.smh", "smh_jax.shipping")
    ]


def test_the_package_has_few_rooms():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 16
    assert {path.name for path in entries if path.is_dir()} == set(FLOOR_OF) - {"commands"}


def test_devices_are_mapped_over_in_one_module():
    calls = ("jax.pmap(", "jax.shard_map(")
    names = {path.name for path in FILES if any(call in path.read_text() for call in calls)}
    assert names == {"parallel.py"}
