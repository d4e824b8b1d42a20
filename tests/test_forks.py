"""The processes that tests start behave as those of a shell."""

import signal
import subprocess

import pytest


def test_arguments_outputs_and_the_exit_code(start_python):
    code = "import jax, sys; print(sys.argv, jax.device_count()); sys.exit('wrong')"
    process = start_python("-c", code, "--x=1", devices=3)
    assert process.communicate() == ("['-c', '--x=1'] 3\n", "wrong\n")
    assert process.returncode == process.poll() == 1


def test_a_process_that_takes_too_long_is_killed(start_python):
    process = start_python("-c", "import time; print('here', flush=True); time.sleep(60)")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired) as error:
        process.communicate(timeout=1)
    assert error.value.output == "here\n"
    assert process.returncode == -signal.SIGKILL
