"""The launch script against a gcloud that plays two workers of a slice on this machine."""

import os
import re
import shutil
import subprocess
import time

import pytest

from tests.conftest import ROOT

# `gcloud compute tpus tpu-vm VERB NAME ...`. Commands for workers are run, each in its own home.
GCLOUD = r"""#!/usr/bin/env bash
printf '%q ' "$@" >> "$FAKE/calls"; echo >> "$FAKE/calls"
state() { cat "$FAKE/state" 2> /dev/null; }
case $4 in
    describe)
        looks=$(($(cat "$FAKE/looks" 2> /dev/null || echo 0) + 1))
        echo $looks > "$FAKE/looks"
        if [ "$looks" = "$PREEMPT_AT" ]; then
            echo PREEMPTED > "$FAKE/state"
            rm -r "$FAKE"/worker?
        fi
        [ "$looks" = "$INTERRUPT_AT" ] && echo 75 > "$FAKE/finish"
        [ "$looks" = "$FINISH_AT" ] && echo "$EXIT_CODE" > "$FAKE/finish"
        state || { echo "ERROR: (gcloud) NOT_FOUND: no such node" >&2; exit 1; } ;;
    create)
        mkdir -p "$FAKE"/worker{0,1}/.local/bin
        for i in 0 1; do cp "$FAKE/uv" "$FAKE/worker$i/.local/bin/"; done
        echo READY > "$FAKE/state" ;;
    delete) rm "$FAKE/state" ;;
    scp)
        grep -qsx 75 "$FAKE/finish" && rm "$FAKE/finish"
        for i in 0 1; do cp "$5" "$FAKE/worker$i/${6#*:}"; done ;;
    ssh)
        [ "$(state)" = READY ] || exit 255
        for argument in "$@"; do
            case $argument in --command=*) command=${argument#*=} ;; esac
        done
        for i in 0 1; do
            (cd "$FAKE/worker$i" && HOME=$PWD PATH="$FAKE/python:$PATH" bash -c "$command") ||
                exit 1
        done ;;
    *) exit 2 ;;
esac
"""
# Makes an environment whose Python notes how it was called, and runs until it is told to end.
UV = r"""#!/usr/bin/env bash
[ "$1" = venv ] || exit 0
mkdir -p .venv/bin
cat > .venv/bin/python <<'PYTHON'
#!/usr/bin/env bash
echo "${PWD##*/} $SETTING $*" >> "$FAKE/runs"
until [ -s "$FAKE/finish" ]; do sleep 0.05; done
echo "the last line of the log"
exit "$(cat "$FAKE/finish")"
PYTHON
chmod +x .venv/bin/python
"""
CONFIG = "configs/imagenet_efficientnet.py:variant=b0,target_size=3000000"
RUN = ("--", f"--config={CONFIG}", "--workdir=gs://bucket/b 0")
SLICE = ("--name=slice", "--zone=zone-a", "--poll_seconds=0.1")


class Cloud:
    """A folder that holds the state of the fake slice, and the ways to use and read it."""

    def __init__(self, folder):
        self.folder = folder
        for name, text in (("gcloud", GCLOUD), ("uv", UV), ("python/python3", "#!/bin/sh\n")):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def start(self, *arguments, preempt_at=0, interrupt_at=0, finish_at=0, exit_code=0):
        environment = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "TMPDIR": str(self.folder),
            "PREEMPT_AT": str(preempt_at),
            "INTERRUPT_AT": str(interrupt_at),
            "FINISH_AT": str(finish_at),
            "EXIT_CODE": str(exit_code),
        }
        return subprocess.Popen(
            [ROOT / "scripts" / "launch_tpu.sh", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self, *arguments, **simulation):
        process = self.start(*arguments, **simulation)
        stdout, stderr = process.communicate(timeout=600)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def lines(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def verbs(self):
        return [line.split()[3] for line in self.lines("calls")]


@pytest.fixture
def cloud(tmp_path):
    fake = Cloud(tmp_path)
    yield fake
    # Ends the processes that play training.
    (tmp_path / "finish").write_text("0")
    if fake.lines("runs"):
        time.sleep(0.2)


def test_a_preempted_slice_is_made_anew_and_the_run_resumes(cloud):
    # Looks 1 and 2 find no slice, 3 finds it ready, 4 preempted, as does 5, which decides.
    done = cloud.launch(
        *SLICE, "--env=SETTING=a value", "--spot", "--delete", *RUN, preempt_at=4, finish_at=6
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changes = [verb for verb in cloud.verbs() if verb in ("create", "delete", "scp")]
    assert changes == ["create", "scp", "delete", "create", "scp", "delete"]
    assert all("--spot" in line for line in cloud.lines("calls") if " create " in line)
    command = f"smh_jax a value -m smh_jax.main --config={CONFIG} --workdir=gs://bucket/b 0"
    # Two workers, before and after.
    assert cloud.lines("runs") == [command] * 4
    assert "the run is complete: gs://bucket/b 0/result.json" in done.stdout


def test_a_table_is_trained_row_by_row_by_every_worker(cloud):
    table = ("experiments.run", "table1", "--scale=paper", "--workdir=gs://bucket/paper")
    # As above; at look 4 all rows but one are done.
    done = cloud.launch(*SLICE, "--", *table, interrupt_at=4, finish_at=7)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [line.split(maxsplit=1)[1] for line in cloud.lines("runs")]
    assert runs == ["-m experiments.run table1 --scale=paper --workdir=gs://bucket/paper"] * 4
    report = "experiments.report table1 --scale=paper --workdir=gs://bucket/paper"
    assert f"all runs are complete: python -m {report}" in done.stdout


def test_an_interrupted_run_is_resumed_and_its_slice_kept_until_it_is_complete(cloud):
    # Looks 1 and 2 find no slice; at look 4 the run has been told to end, at 7 it is complete.
    done = cloud.launch(*SLICE, "--delete", *RUN, interrupt_at=4, finish_at=7)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run was interrupted: starting it again" in done.stdout
    changes = [verb for verb in cloud.verbs() if verb in ("create", "delete", "scp")]
    assert changes == ["create", "scp", "scp", "delete"]
    # Two workers, before and after.
    assert len(cloud.lines("runs")) == 4
    assert "the run is complete: gs://bucket/b 0/result.json" in done.stdout


def test_help_shows_every_option(cloud):
    done = cloud.launch("--help")
    assert done.returncode == 0
    source = (ROOT / "scripts" / "launch_tpu.sh").read_text()
    own, _, _ = source.partition("esac")
    options = re.findall(r"^        (--[\w-]+)[=)]", own, re.MULTILINE)
    assert {"--name", "--delete", "--help"} <= set(options)
    assert all(f"  {option}" in done.stdout for option in options)


def test_a_run_that_fails_is_shown_and_its_slice_kept(cloud):
    done = cloud.launch(*SLICE, "--delete", *RUN, finish_at=3, exit_code=7)
    assert done.returncode == 1
    assert "the run has ended with an error" in done.stderr
    assert "the last line of the log" in done.stdout
    assert "delete" not in cloud.verbs()


def test_a_run_under_way_is_left_in_peace(cloud):
    first = cloud.start(*SLICE, *RUN)
    while len(cloud.lines("runs")) < 2:
        assert first.poll() is None
        time.sleep(0.1)
    # As when the user's machine is shut down.
    first.kill()
    first.communicate()
    before = cloud.lines("runs")
    done = cloud.launch(*SLICE, *RUN, finish_at=int(cloud.lines("looks")[0]) + 3)
    assert done.returncode == 0, done.stderr
    assert "the run is under way" in done.stdout
    assert cloud.lines("runs") == before
    assert cloud.verbs().count("scp") == 1


def test_dry_run_prints_what_is_then_called(cloud):
    printed = cloud.launch(*SLICE, "--project=p", "--dry-run", *RUN)
    assert printed.returncode == 0
    assert not cloud.lines("calls")
    planned = [line for line in printed.stdout.splitlines() if line.startswith("gcloud ")]
    assert cloud.launch(*SLICE, "--project=p", *RUN, finish_at=3).returncode == 0

    def plain(line):
        return re.sub(r"smh_jax\.\d+\.", "smh_jax.PID.", line.removeprefix("gcloud ").strip())

    # The same in the same order, but for how often it is looked at.
    once = list(dict.fromkeys(map(plain, planned)))
    called = list(dict.fromkeys(map(plain, cloud.lines("calls"))))
    assert {line for line in once if "describe" in line} == {
        line for line in called if "describe" in line
    }
    assert [line for line in once if "describe" not in line] == [
        line for line in called if "describe" not in line
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--zone=z", *RUN), "--name is missing"),
        (("--name=n", *RUN), "--zone is missing"),
        ((*SLICE, "--", "--workdir=gs://b/w"), "--config=configs/... is missing"),
        ((*SLICE, "--", "--config=c", "--workdir=runs/w"), "--workdir=runs/w must be in a bucket"),
        (
            (*SLICE, "--", "smh_jax.inspect", "--config=c"),
            "smh_jax.inspect is neither smh_jax.main",
        ),
        ((*SLICE, "--", "experiments.run", "table1"), "--workdir=(missing) must be in a bucket"),
        ((*SLICE, "--cores=3", *RUN), "unknown option --cores=3"),
    ],
)
def test_bad_options_are_refused_before_anything_is_called(cloud, arguments, message):
    done = cloud.launch(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert not cloud.lines("calls")


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "scripts").glob("*.sh")))
def test_shell_scripts_pass_their_linter(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; it comes with the extra 'test'")
    # What the environment sets or takes is used in another file.
    subprocess.run(
        ["shellcheck", "--shell=bash", "--severity=warning", "--exclude=SC2034", script],
        cwd=ROOT / "scripts",
        check=True,
    )
