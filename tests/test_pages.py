"""What README and docs say is so: commands, links, paths, figures, messages."""

import pathlib
import re
import runpy
import shlex
import sys
import tomllib

import pytest
from absl import flags

import smh_jax
from experiments import catalogue
from scripts import draw_method, overview_chart, update_pages
from smh_jax import cli
from smh_jax.config import from_config_dict
from tests.conftest import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*update_pages.PAGES, ROOT / "CONTRIBUTING.md")
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
    blocks = re.findall(r"```\n(.*?)```", text, re.S)
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
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


@pytest.mark.slow
def test_the_way_of_a_new_user(run_python, tmp_path):
    """The commands of the guides, one after the other, in fewer epochs and steps."""
    pages = ("quick_start", "ship", "convert")
    listed = [c for page in pages for c in commands_of(PAGES[f"docs/{page}.md"])]
    ran = []
    for command in dict.fromkeys(listed):
        if not command.startswith("python -m smh_jax.") or "--" not in command:
            continue
        if "image.png" in command or "model.safetensors" in command:
            # Files of the reader's.
            continue
        words = [
            re.sub(r"runs/|(?=\bdigits\.(smh|onnx|stablehlo))", f"{tmp_path}/", word)
            for word in shlex.split(command.replace("--steps=200", "--steps=2"))[1:]
        ]
        if "smh_jax.main" in command:
            words.append("--config.epochs=0.2")
        if "smh_jax.export" in command and "export" in ran:
            # Every precision has been measured once.
            words.append("--noevaluate")
        done = run_python(*words)
        assert done.stdout
        ran.append(words[1].partition(".")[2])
    assert {"main", "plot", "export", "predict", "convert", "inspect"} <= set(ran)
    assert (tmp_path / "digits.onnx").stat().st_size > 10_000
    assert pathlib.Path(tmp_path / "fine_tuned" / "result.json").exists()
