"""Pages of the site that lie elsewhere in the project: results, changes, how to contribute."""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
# Where they are in the site, by folder and by what they end with.
_FOLDERS = {"results": ROOT / "experiments" / "results", "benchmarks": ROOT / "benchmarks/results"}
_ENDINGS = (".md", ".png")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files."""
    for name, source in _PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for name, folder in _FOLDERS.items():
        for path in sorted(folder.iterdir()):
            if path.suffix in _ENDINGS:
                uri = f"{name}/{path.name}"
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files
