"""Classifies images or continues texts with an exported model, or measures it on its test set.

python -m smh_jax.predict model.smh image.png ...
python -m smh_jax.predict text.smh "def main" --length=200 --temperature=0.5 --seed=1
python -m smh_jax.predict model.smh --eval
"""

from absl import flags

from smh_jax import cli

TOP = flags.DEFINE_integer("top", 3, "Number of classes to show for each image.", lower_bound=1)
LENGTH = flags.DEFINE_integer(
    "length", 200, "Tokens, such as characters, that follow a prompt.", lower_bound=1
)
TEMPERATURE = flags.DEFINE_float(
    "temperature", 0.8, "Of their draws; 0 takes the likeliest.", lower_bound=0.0
)
SEED = flags.DEFINE_integer("seed", 0, "Of their draws.", lower_bound=0)
SIZE = flags.DEFINE_float(
    "size", None, "Of a file of several: a number of variables or a share of all weights."
)
TASK = flags.DEFINE_string("task", None, "Of a file of several: which one.")
EVAL = flags.DEFINE_bool("eval", False, "Measure the model on the dataset it was trained for.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of the dataset, if not where the run had it.")


def main(arguments: list[str]) -> None:
    """Classifies or measures."""
    if EVAL.value and any(flag.present for flag in (TOP, LENGTH, TEMPERATURE, SEED)):
        raise ValueError("--top, --length, --temperature and --seed go without --eval")
    if DATA_DIR.present and not EVAL.value:
        raise ValueError("--data_dir goes with --eval")
    if len(arguments) < 2 or (len(arguments) > 2) == EVAL.value:
        raise ValueError("give a model and either image files, prompts or --eval")
    # It takes seconds to load, which a mistake in the flags need not wait for.
    from smh_jax.shipping import artifact as artifacts

    artifact = artifacts.load(arguments[1], size=SIZE.value, task=TASK.value)
    if EVAL.value:
        # TensorFlow, which reads datasets, takes longer to load than most images to classify.
        from smh_jax.shipping import from_run

        config = from_run.dataset_of(artifact, DATA_DIR.value)
        accuracy = from_run.with_accuracy(artifact, config).accuracy
        known = ("dataset", "split", "accuracy", "loss", "examples")
        derived = "".join(
            f", {value:.4f} {name.replace('_', ' ')}"
            for name, value in accuracy.items()
            if name not in known
        )
        print(
            f"{accuracy['dataset']} {accuracy['split']}: accuracy {accuracy['accuracy']:.2%}, "
            f"loss {accuracy['loss']:.4f}{derived}, {accuracy['examples']:,} examples"
        )
        return
    if artifact.preprocessing is None:
        raise ValueError("the model does not say how its inputs are preprocessed")
    options = {
        "top": TOP.value,
        "length": LENGTH.value,
        "temperature": TEMPERATURE.value,
        "seed": SEED.value,
    }
    for line in artifact.task.predict(artifact, arguments[2:], options):
        print(line)


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
