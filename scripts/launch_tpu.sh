#!/usr/bin/env bash
# Trains on a Cloud TPU slice, from any machine with gcloud:
#
#   scripts/launch_tpu.sh --name=b2 --zone=europe-west4-a -- \
#       --config=configs/imagenet_efficientnet.py --workdir=gs://BUCKET/b2
#   scripts/launch_tpu.sh --name=table1 --zone=europe-west4-a -- \
#       experiments.run table1 --scale=paper --workdir=gs://BUCKET/paper
#
# Creates the slice or reuses the one of that name, installs these sources with the tested versions
# on every worker, starts `python -m smh_jax.main` with what follows -- on all of them, or
# `experiments.run` where it is named, which trains one row of a table after the other, and watches
# until all of it is complete. A preempted slice is made anew, an interrupted run is started again, and
# it resumes from its last checkpoint; so it does when this script is ended and called again. The
# slice is left running (and charged for) unless --delete is given.
#
#   --name=NAME             of the slice (required)
#   --zone=ZONE             of Google Cloud (required)
#   --project=PROJECT       otherwise gcloud's default
#   --accelerator=v3-32     type and cores: 16 chips in 4x4
#   --runtime=VERSION       software of the machines, otherwise tpu-ubuntu2204-base
#   --spot                  cheaper, and preempted at any time
#   --env=NAME=VALUE        of the run, such as TFDS_DATA_DIR=gs://BUCKET/data; may be repeated
#   --poll_seconds=60       between looks at the run
#   --delete                deletes the slice when the run is complete
#   --dry-run               prints the commands of a first launch in place of running them
#   --help                  prints this
set -euo pipefail
cd "$(dirname "$0")/.."

# Exit code of a run that was told to end before it was complete: the same command resumes it.
interrupted=75

name='' zone='' project='' accelerator=v3-32 runtime=tpu-ubuntu2204-base
spot='' delete='' dry_run='' poll_seconds=60 environment=()

fail() {
    echo "error: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --name=*) name=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --project=*) project=${1#*=} ;;
        --accelerator=*) accelerator=${1#*=} ;;
        --runtime=*) runtime=${1#*=} ;;
        --env=*=*) environment+=("${1#--env=}") ;;
        --poll_seconds=*) poll_seconds=${1#*=} ;;
        --spot) spot=yes ;;
        --delete) delete=yes ;;
        --dry-run) dry_run=yes ;;
        --help)
            # The comment at the top of this file.
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/launch_tpu.sh
            exit
            ;;
        --) shift; break ;;
        *) fail "unknown option $1; the options of the run come after --" ;;
    esac
    shift
done
[ -n "$name" ] || fail "--name is missing"
[ -n "$zone" ] || fail "--zone is missing"
program=smh_jax.main
case ${1:-} in
    smh_jax.main | experiments.run) program=$1; shift ;;
    -* | '') ;;
    *) fail "after --, $1 is neither smh_jax.main nor experiments.run" ;;
esac
config='' workdir=''
for argument in "$@"; do
    case $argument in
        --config=*) config=${argument#*=} ;;
        --workdir=*) workdir=${argument#*=} ;;
    esac
done
[ -n "$config" ] || [ "$program" != smh_jax.main ] ||
    fail "after --, --config=configs/... is missing"
# The machines' own disks go with the slice, and its workers share none.
case $workdir in
    gs://*) ;;
    *) fail "after --, --workdir=${workdir:-(missing)} must be in a bucket: gs://..." ;;
esac
[ -n "$dry_run" ] || command -v gcloud > /dev/null || fail "gcloud (Google Cloud's SDK) is missing"

# Prints the command or runs it.
run() {
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

tpu() {
    run gcloud compute tpus tpu-vm "$@" --zone="$zone" ${project:+--project="$project"} --quiet
}

on_all_workers() {
    tpu ssh "$name" --worker=all --command="$1"
}

state() {
    local text
    if text=$(tpu describe "$name" --format='value(state)' 2>&1); then
        echo "$text"
    elif grep -q NOT_FOUND <<< "$text"; then
        echo NONE
    else
        # Of the connection or the rights, not of the slice.
        echo "$text" >&2
        echo UNKNOWN
    fi
}

create() {
    tpu create "$name" --accelerator-type="$accelerator" --version="$runtime" ${spot:+--spot}
}

# A slice that is ready, whatever there is now. Fails where it cannot be had yet.
prepare() {
    if [ -n "$dry_run" ]; then
        echo "# unless there is one of that name:"
        create
    else
        case $(state) in
            READY) echo "reusing $name"; return ;;
            NONE) ;;
            STOPPED) tpu start "$name"; return ;;
            PREEMPTED | TERMINATED | FAILED)
                echo "$name was preempted or has failed: making it anew"
                tpu delete "$name" || return
                ;;
            *) return 1 ;;
        esac
        create
    fi
}

# The sources, and the tested versions of what they need.
install() {
    local archive
    archive=${TMPDIR:-/tmp}/smh_jax.$$.tar.gz
    run tar --create --gzip --file="$archive" --exclude=__pycache__ \
        smh_jax configs experiments scripts setup.py constraints.txt
    tpu scp "$archive" "$name:smh_jax.tar.gz" --worker=all || return
    run rm "$archive"
    # The machines' own Python is too old.
    on_all_workers "set -e; mkdir -p smh_jax; cd smh_jax; tar -xzf ../smh_jax.tar.gz
        python3 -m pip install --quiet --user uv
        [ -x .venv/bin/python ] || ~/.local/bin/uv venv --quiet --python 3.11
        ~/.local/bin/uv pip install --quiet -c constraints.txt -e . 'jax[tpu]'"
}

# Starts the run where it is not running. It outlives the connection.
start() {
    local command='' variable
    for variable in ${environment[@]+"${environment[@]}"}; do
        command+="export $(printf '%q' "$variable"); "
    done
    command+=".venv/bin/python -m $program$(printf ' %q' "$@"); echo \$? > run.exit"
    on_all_workers "cd smh_jax
        if [ ! -e run.exit ] && [ -e run.pid ] && kill -0 \$(cat run.pid) 2> /dev/null; then exit; fi
        rm -f run.exit
        nohup bash -c $(printf '%q' "$command") > run.log 2>&1 < /dev/null & echo \$! > run.pid"
}

# One line of each worker: 'worker running', 'worker exit CODE', or 'worker gone' after a reboot.
look() {
    on_all_workers "cd smh_jax
        if [ -s run.exit ]; then echo worker exit \$(cat run.exit)
        elif [ -e run.pid ] && kill -0 \$(cat run.pid) 2> /dev/null; then echo worker running
        else echo worker gone; fi; tail -n 1 run.log"
}

# A slice on which the run is under way; one that is already is left in peace.
launch() {
    local seen
    prepare || return
    if [ -n "$dry_run" ]; then
        echo "# unless the run is under way there:"
        look
    elif seen=$(look 2> /dev/null) && ! grep -Eq '^worker (exit|gone)' <<< "$seen"; then
        echo "the run is under way"
        return
    fi
    install && start "$@"
}

if [ -n "$dry_run" ]; then
    launch "$@"
    echo "# every $poll_seconds seconds, and again from the top after a preemption:"
    tpu describe "$name" --format='value(state)'
    look
    [ -z "$delete" ] || { echo "# at the end:"; tpu delete "$name"; }
    exit
fi

[ "$(state)" != UNKNOWN ] || fail "gcloud cannot look for $name"
until launch "$@"; do
    echo "not launched; trying again in $poll_seconds s"
    sleep "$poll_seconds"
done
while true; do
    sleep "$poll_seconds"
    case $(state) in
        READY)
            # A connection that fails is tried again.
            seen=$(look) || continue
            tail -n 1 <<< "$seen"
            workers=$(grep '^worker ' <<< "$seen") || continue
            # Without a code for an instant while it is written.
            if grep -Eqv "^worker (running|gone|exit( (0|$interrupted))?)$" <<< "$workers"; then
                on_all_workers 'tail -n 30 smh_jax/run.log' || true
                fail "the run has ended with an error; the same command resumes it"
            elif grep -q '^worker gone' <<< "$workers"; then
                echo "a worker has restarted: starting the run again"
                launch "$@" || true
            elif grep -q '^worker running' <<< "$workers"; then
                # Interrupted together, the workers end one after the other.
                continue
            elif grep -q "^worker exit $interrupted" <<< "$workers"; then
                echo "the run was interrupted: starting it again"
                launch "$@" || true
            elif ! grep -qv '^worker exit 0$' <<< "$workers"; then
                break
            fi
            ;;
        UNKNOWN) ;;
        *)
            echo "$name is not ready any more"
            launch "$@" || true
            ;;
    esac
done
case $program in
    smh_jax.main) echo "the run is complete: $workdir/result.json" ;;
    *) echo "all runs are complete: python -m experiments.report$(printf ' %q' "$@")" ;;
esac
[ -z "$delete" ] || tpu delete "$name"
