"""A few of the runs and files of tests.chaos and tests.fuzz."""

import pytest


@pytest.mark.slow
def test_disturbed_runs_end_as_undisturbed_ones(run_python):
    done = run_python("-m", "tests.chaos", "--runs=1", "--seed=2")
    assert ": 1 runs, 0 broken" in done.stdout


@pytest.mark.slow
def test_files_that_are_wrong_inside(run_python):
    done = run_python("-m", "tests.fuzz", "--cases=60", "--seed=3")
    assert ": 0 broken" in done.stdout
    assert "| artifact | refused |" in done.stdout
    assert "| artifact | equal |" in done.stdout
    assert "| checkpoint | equal |" in done.stdout
    assert "| --params file of Flax | refused |" in done.stdout
