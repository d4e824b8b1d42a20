"""The notebooks run, cell by cell, in a kernel of their own."""

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["look_inside", "train_to_served_file"])
# The kernel's own libraries, not ours.
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs(name, monkeypatch):
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Hundreds of steps are worth compiling well.
    monkeypatch.setenv("XLA_FLAGS", "")
    notebook = jupytext.read(ROOT / "examples" / f"{name}.py")
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(cwd=str(ROOT))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    assert all(cell.execution_count for cell in cells)
    assert any(output.output_type == "stream" for cell in cells for output in cell.outputs)
