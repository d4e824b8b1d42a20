"""Images of ImageNet's input per second of one core.

    python -m benchmarks.input_pipeline [--torch_python=OTHER/bin/python]

JPEGs like ImageNet's (500 x 375 pixels, 110 KB in the mean) are prepared as the trainer wants them,
and written as files for torchvision. Then, in turn and on one core: the trainer's own batches by
each recipe, decoding alone of the same images, and torchvision's pipelines of the same recipe
(`RandomResizedCrop` bicubic, flip, normalize), by Pillow as in its reference training and on
tensors by its own decoder. What is timed is the processor time of all threads, so that other work
of the machine takes nothing from either side. Needs the extra `benchmark`, here or in the other
environment.
"""

import functools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from absl import flags

from benchmarks import photos, timing
from experiments import markdown
from smh_jax import cli, data
from smh_jax.config.files import write_json, write_text
from smh_jax.data import preparation

IMAGES = flags.DEFINE_integer("images", 256, "Different images.", lower_bound=32)
BATCHES = flags.DEFINE_integer("batches", 16, "Timed batches of each turn.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 7, "Turns of each pipeline.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/input_pipeline.json", "File to write.")
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", sys.executable, "Python of the environment that torchvision is in."
)

BATCH_SIZE = 32
SIDE = 224
# Batches before those that are timed: buffers are as full at the beginning as at the end.
_WARM_UP = 3
_SIZES = ((500, 375), (375, 500), (500, 375), (500, 333))
_SYNSETS = ("n01440764", "n01443537")

OURS = "smh_jax"
DECODING = "decoding alone"
PILLOW = "torchvision, Pillow"
TENSORS = "torchvision, tensors"
# The pipelines that each of ours is compared with.
_COMPARISONS = {
    OURS: (PILLOW, TENSORS, DECODING),
    f"{OURS}, bfloat16": (PILLOW, TENSORS, DECODING),
    f"{OURS}, AutoAugment": (f"{PILLOW}, AutoAugment",),
}

# Images per second of processor time of one turn.
Turn = Callable[[], float]


def write_images(folder: pathlib.Path, count: int) -> str:
    """Writes images as files into a folder, and prepares the same ones; returns the data_dir."""
    files = [
        (f"{i}.JPEG", photos.jpeg(photos.photo(i, *_SIZES[i % len(_SIZES)]))) for i in range(count)
    ]
    for name, content in files:
        (folder / name).write_bytes(content)
    (folder / "tars").mkdir()
    train = {synset: files[at :: len(_SYNSETS)] for at, synset in enumerate(_SYNSETS)}
    photos.write_tars(folder / "tars", train, files[:1])
    preparation.prepare_imagenet(folder / "tars", str(folder / "data"), subset=True)
    return str(folder / "data")


def ours(
    data_dir: str, augmentation: str, *, preprocessing: str = "resnet", dtype: str = "float32"
) -> Turn:
    """The trainer's batches."""
    info = data.describe("imagenet2012", data_dir, SIDE, preprocessing)
    split = data.load(info, "train", data_dir)
    options = {"batch_size": BATCH_SIZE, "augmentation": augmentation, "dtype": dtype, "seed": 0}
    start = functools.partial(data.train_batches, split, info.normalization, **options)
    return functools.partial(_speed, functools.partial(start, first_step=0, last_step=10**6))


def decoding(paths: list[pathlib.Path]) -> Turn:
    """Images that are decoded whole, by the decoder that the trainer uses, and nothing else."""

    def decode(path: tf.Tensor) -> tf.Tensor:
        content = tf.io.read_file(path)
        return tf.shape(tf.image.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"))

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).repeat()
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE)
    return functools.partial(_speed, dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator)


def _speed(start: Callable[[], Iterator[Any]]) -> float:
    # Started anew: its threads would otherwise keep working in the turns of the others.
    batches = start()
    for _ in range(_WARM_UP):
        next(batches)
    begin = time.process_time()
    for _ in range(BATCHES.value):
        next(batches)
    return BATCHES.value * BATCH_SIZE / (time.process_time() - begin)


def start_torchvision(folder: pathlib.Path) -> tuple[subprocess.Popen, str]:
    """Starts the process of torchvision's pipelines; returns it and the versions it has."""
    numbers = map(str, (BATCH_SIZE, BATCHES.value, _WARM_UP, SIDE))
    command = [TORCH_PYTHON.value, "-m", "benchmarks.torchvision_input", str(folder), *numbers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if not (versions := process.stdout.readline().strip()):
        raise ValueError("torchvision could not be started; the extra `benchmark` installs it")
    return process, versions


def torchvision(process: subprocess.Popen, name: str) -> Turn:
    """A pipeline of `benchmarks.torchvision_input`."""

    def turn() -> float:
        print(name, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return turn


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line for each pipeline and for each comparison."""
    speeds = [(row["pipeline"], f"{row['images_per_second']:.0f}") for row in rows]
    comparisons = [
        (row["pipeline"], other, f"{ratio:.2f}")
        for row in rows
        for other, ratio in row["times_as_fast_as"].items()
    ]
    return "\n\n".join(
        (
            markdown.table(("pipeline", "images/s of one core"), speeds),
            markdown.table(("of", "against", "times as fast"), comparisons, text=(0, 1)),
        )
    )


def main(_: list[str]) -> None:
    """Measures, writes and prints."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data_dir = write_images(folder, IMAGES.value)
        paths = sorted(folder.glob("*.JPEG"))
        size = statistics.mean(path.stat().st_size for path in paths)
        process, torch_versions = start_torchvision(folder)
        with process:
            turns = {
                OURS: ours(data_dir, "none"),
                PILLOW: torchvision(process, PILLOW),
                TENSORS: torchvision(process, TENSORS),
                DECODING: decoding(paths),
                f"{OURS}, bfloat16": ours(data_dir, "none", dtype="bfloat16"),
                f"{OURS}, AutoAugment": ours(data_dir, "autoaugment_v0"),
                f"{PILLOW}, AutoAugment": torchvision(process, f"{PILLOW}, AutoAugment"),
                f"{OURS}, RandAugment": ours(data_dir, "randaugment"),
                f"{OURS}, Inception": ours(data_dir, "none", preprocessing="inception"),
            }
            speeds = timing.in_turn(turns, REPEATS.value)
            process.stdin.close()
    rows = [
        {
            "pipeline": name,
            "images_per_second": statistics.median(speeds[name]),
            "turns": [round(speed, 1) for speed in speeds[name]],
            "times_as_fast_as": {
                other: timing.median_ratio(speeds[name], speeds[other])
                for other in _COMPARISONS.get(name, ())
            },
        }
        for name in speeds
    ]
    content = {
        "machine": timing.machine() | {"cores used": len(os.sched_getaffinity(0))},
        "versions": f"tensorflow {tf.__version__}, {torch_versions}",
        "image_bytes": round(size),
        "side": SIDE,
        "batch_size": BATCH_SIZE,
        "rows": rows,
    }
    output = pathlib.Path(OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, content)
    write_text(
        output.with_suffix(".md"),
        f"# {__doc__.strip()}\n\nMeasured on: {timing.describe([content['machine']])}; "
        f"{content['versions']}. Medians of {REPEATS.value} turns.\n\n{table(rows)}\n",
    )
    print(table(rows))


def _restart_on_one_core() -> None:
    """Starts this program again on one core: libraries count the cores when they are loaded."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, {min(cores)})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _restart_on_one_core()
    cli.run(main)
