"""What README and docs say is so: commands, links, paths, figures, messages."""

import importlib.util
import pathlib
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterable

import numpy as np
import pytest
from absl import flags
from PIL import Image

import smh_jax
from experiments import catalogue
from scripts import draw_method, overview_chart, update_pages
from smh_jax import cli
from smh_jax.config import from_config_dict
from tests.conftest import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *update_pages.PAGES,
        ROOT / "CONTRIBUTING.md",
        ROOT / "experiments" / "results" / "README.md",
    )
}
_COMMAND = re.compile(r"(?:python -m |python scripts/|scripts/\w+\.sh)[^`\n|]*")
# Where the site has what lies elsewhere (docs/site_files.py).
_ELSEWHERE = {"docs/results/": "experiments/results/", "docs/benchmarks/": "benchmarks/results/"}
# A file of the project, wherever a page names one.
_PATH = re.compile(
    r"`((?:configs|scripts|smh_jax|docs|experiments|benchmarks|tests|examples)/[\w/.-]*\w/?)[`:]"
)


def commands_of(text: str) -> list[str]:
    """The commands of a page, in its code, blocks and inline."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
    blocks = [block for language, block in fenced.findall(text) if not language]
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", fenced.sub("", text))
    return [found.strip() for code in (*blocks, *inline) for found in _COMMAND.findall(code)]


COMMANDS = sorted({command for text in PAGES.values() for command in commands_of(text)})
# What the reader adds: a method, a model.
_OF_THE_READER = ("method=cyclic", "--config=...")
PYTHON_COMMANDS = [
    command
    for command in COMMANDS
    if command.startswith("python ")
    and not command.startswith("python -m tests.")
    and not any(word in command for word in _OF_THE_READER)
]
# Named without the flags with which they are called.
MODULES = [c for c in PYTHON_COMMANDS if re.fullmatch(r"python -m [\w.]+", c)]
MODULES.remove("python -m scripts.update_pages")


@pytest.fixture
def parsed(fresh_flags, monkeypatch):
    """Parses a command's flags as it would, and what is in them; nothing is run."""
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    rests = []
    monkeypatch.setattr(cli, "run", lambda main, **_: rests.append(cli._parse_flags(sys.argv)))

    def parse(command: str) -> tuple[str, list[str]]:
        _, *words = shlex.split(command)
        module, *arguments = words[1:] if words[0] == "-m" else words
        path = module if module.endswith(".py") else module.replace(".", "/") + ".py"
        monkeypatch.setattr(sys, "argv", [str(ROOT / path), *arguments])
        runpy.run_path(str(ROOT / path), run_name="__main__")
        return module, rests[-1][1:]

    return parse


@pytest.mark.parametrize("command", PYTHON_COMMANDS)
def test_commands_are_understood(command, parsed, monkeypatch):
    monkeypatch.chdir(ROOT)
    if command in MODULES:
        assert (ROOT / (command.split()[-1].replace(".", "/") + ".py")).is_file()
        return
    module, rest = parsed(command)
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
        from_config_dict(flags.FLAGS.config)
    if module.startswith("experiments"):
        catalogue.load_argument(["", *rest], flags.FLAGS.scale)
    elif module != "smh_jax.predict":
        assert not rest


def test_wrong_commands_are_found(parsed):
    with pytest.raises(SystemExit, match="error: Unknown command line flag 'workdr'"):
        parsed("python -m smh_jax.plot --workdr=runs/digits")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]*)?\)", PAGES[page]):
        if "://" in target:
            assert target.startswith("https://")
            continue
        path = str((ROOT / page).parent.joinpath(target).relative_to(ROOT))
        for site, folder in _ELSEWHERE.items():
            path = path.replace(site, folder)
        assert (ROOT / path).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    for path in _PATH.findall(PAGES[page]):
        # A page may say where a file of the reader's would be.
        if (page, path) not in {
            ("docs/add_a_method.md", "smh_jax/methods/cyclic.py"),
            ("docs/add_a_model.md", "smh_jax/models/plain.py"),
        }:
            assert (ROOT / path).exists(), f"{page} names {path}"


def test_pages_are_as_the_committed_results():
    for page, text in PAGES.items():
        assert update_pages.filled(text) == text, f"{page}: python -m scripts.update_pages"
    assert update_pages.CHART.read_text() == overview_chart.draw_svg()


def test_the_check_finds_old_figures():
    old = PAGES["docs/choosing.md"].replace("88.12", "99.12")
    assert old != PAGES["docs/choosing.md"]
    assert update_pages.filled(old) == PAGES["docs/choosing.md"]
    with pytest.raises(ValueError, match=r"results: sizs is unknown; did you mean .*sizes"):
        update_pages.filled("<!-- results: sizs -->\n<!-- end -->")


def test_the_picture_is_what_the_script_draws(tmp_path):
    path = tmp_path / "method.svg"
    draw_method.save(path)
    assert path.read_text() == (ROOT / "docs" / "images" / "method.svg").read_text()


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) <= 900
    (example,) = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.S)
    assert len([line for line in example.splitlines() if line]) <= 15


def test_messages_are_those_of_the_code():
    sources = [
        path.read_text() for path in (ROOT / "smh_jax").rglob("*.py") if path.name != "layouts.py"
    ]
    # As one text, however it is cut over lines.
    text = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    known = [
        error
        for rows in tomllib.loads((ROOT / "tests" / "bad_inputs.toml").read_text()).values()
        for error in rows.values()
    ]
    page = PAGES["docs/troubleshooting.md"]
    messages = [
        message
        for cell in re.findall(r"^\| (.*?) \|", page, re.M)
        for message in re.findall(r"`([^`]+)`", cell)
    ]
    assert len(messages) > 15
    for message in messages:
        pattern = re.escape(message).replace("plot", "(?:plot|{extra})")
        assert any(message in error for error in known) or re.search(pattern, text), message


def test_every_page_is_in_the_site():
    yaml = (ROOT / "mkdocs.yml").read_text()
    assert all(page.removeprefix("docs/") in yaml for page in PAGES if page.startswith("docs/"))


@pytest.mark.parametrize(
    "module", sorted({command.split()[2] for command in PYTHON_COMMANDS if " -m " in command})
)
def test_every_command_has_a_version_and_help(module, parsed, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(f"python -m {module} --version")
    assert not ended.value.code
    assert capsys.readouterr().out == f"smh_jax {smh_jax.__version__}\n"


@pytest.mark.parametrize("module", ["smh_jax.main", "experiments.run", "benchmarks.run"])
def test_help_shows_the_flags_of_all_commands(module, parsed, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(f"python -m {module} --help")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(f"--[no]{name}" in shown for name in ("quiet", "verbose", "version"))


def test_help_waits_for_nothing(run_python):
    """What takes seconds to load is not loaded before flags are understood."""
    code = "import sys, {module}; assert not {{'jax', 'tensorflow', 'flax'}} & set(sys.modules)"
    for module in ("smh_jax.main", "smh_jax.export", "experiments.run", "experiments.report"):
        run_python("-c", code.format(module=module), anew=True)


# Where a shallower network than ResNet-20 is chosen, which compiles faster.
_SMALL = re.compile(r"(?<=configs/digits\.py):|(?<=configs/digits\.py)(?= )")


class Reader:
    """Types the commands of pages, for shallower networks, in fewer epochs, into its own folder."""

    def __init__(self, run_python, folder: pathlib.Path):
        self._run_python, self._folder = run_python, folder
        self.ran: list[str] = []

    def types(self, command: str) -> None:
        """Runs one, which has to succeed."""
        words = shlex.split(self._shorter(command))[1:]
        if words[0] != "-m":
            words[:1] = ["-m", words[0].removesuffix(".py").replace("/", ".")]
        module = words[1]
        if module == "smh_jax.export" and "--noevaluate" not in words and module in self.ran:
            # Every precision has been measured once.
            words.append("--noevaluate")
        self._run_python(*words)
        self.ran.append(module)

    def _shorter(self, command: str) -> str:
        command = re.sub(
            r"runs/|(?<![/\w])(?=\w+\.(smh|onnx|stablehlo)\b)|(?<=output=)(?=reports)",
            f"{self._folder}/",
            command.replace("--steps=200", "--steps=2").replace("folder:", "folder:runs/data/"),
        )
        if "smh_jax.main" in command:
            # An epoch of the sources of Python is long, and so are their held-out files.
            text = "configs/text.py" in command
            flags = (
                "--config.epochs=0.002 --config.model.options.depth=1"
                if text
                else "--config.epochs=0.2"
            )
            return f"{_SMALL.sub(':depth=8,', command)} {flags}"
        if "experiments.run" in command:
            # tests/test_experiments.py trains rows.
            return command if "--dry_run" in command else f"{command} --dry_run"
        if "experiments.report" in command:
            # What is committed, since nothing was trained.
            command = re.sub(r" --workdir=\S+", "", command)
            return command if "--output" in command else f"{command} --output={self._folder}"
        if "benchmarks.run" in command:
            return f"{command} --output={self._folder}"
        return command


@pytest.fixture
def reader(run_python, tmp_path):
    return Reader(run_python, tmp_path)


def complete(pages: Iterable[str]) -> list[str]:
    """The commands of pages in their order, each once, but those that are only named."""
    listed = [command for page in pages for command in commands_of(PAGES[page])]
    left_out = {*MODULES, "python -m scripts.update_pages"}
    return [c for c in dict.fromkeys(listed) if c in PYTHON_COMMANDS and c not in left_out]


# What a command needs that is not here, by a part of the command.
_NEEDS = {
    "image.png": "a picture of the reader's",
    "model.safetensors": "weights of the reader's",
    "svhn_cropped": "a download",
    "/data/tars": "ImageNet",
    "host0:1234": "two machines",
    "workdir=RUN": "the runs of a sweep",
    "--calibrate=": "the runs of a sweep",
    "shipping-scratch": "the runs of a table",
    "report experiments/sweeps": "the runs of a sweep",
    "report table1 --scale=paper": "the runs of a table",
    "report table2 --scale=paper": "the runs of a table",
}


@pytest.mark.slow(minutes=8)
def test_the_commands_of_all_pages(reader, tmp_path):
    """All that can run here, the guides' in their order and then the others."""
    for name in ("roses", "tulips"):
        (tmp_path / "data/flowers" / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.full((40, 40, 3), 20 * index + 10 * (name == "roses"), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data/flowers" / name / f"{index}.png")
    needs = dict(_NEEDS)
    if importlib.util.find_spec("libtpu") is None:
        needs["scripts.compile_for_tpu"] = "the TPU compiler"
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").exists():
        needs["prepare_fashion_mnist"] = "Debian's package"
    guides = [f"docs/{page}.md" for page in ("quick_start", "ship", "convert")]
    commands = complete([*guides, *(page for page in PAGES if page not in guides)])
    typed = set()
    for command in commands:
        # What differs in the name of a table alone is known to tests/test_experiments.py.
        kind = re.sub(r"(?<=experiments\.)(run|report) [\w/.]+", r"\1", command)
        if kind not in typed and not any(part in command for part in needs):
            reader.types(command)
            typed.add(kind)
    ours = {f"smh_jax.{c}" for c in ("main", "plot", "export", "predict", "convert", "inspect")}
    assert ours | {"experiments.run", "experiments.report", "benchmarks.run"} <= set(reader.ran)
    assert len(reader.ran) > 50
    assert (tmp_path / "digits.onnx").stat().st_size > 10_000
    assert pathlib.Path(tmp_path / "fine_tuned" / "result.json").exists()
    assert all(any(part in command for command in commands) for part in _NEEDS)
