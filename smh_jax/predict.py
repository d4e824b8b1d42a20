"""Classifies image files with an exported model, or measures it on its test set.

python -m smh_jax.predict model.smh image.png ...
python -m smh_jax.predict model.smh --eval
"""

from typing import TYPE_CHECKING

from absl import flags

from smh_jax import cli

if TYPE_CHECKING:
    from smh_jax.shipping.artifact import Artifact

TOP = flags.DEFINE_integer("top", 3, "Number of classes to show for each image.", lower_bound=1)
EVAL = flags.DEFINE_bool("eval", False, "Measure the model on the dataset it was trained for.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of the dataset, if not where the run had it.")


def classify(artifact: "Artifact", paths: list[str], top: int) -> list[list[tuple[str, float]]]:
    """The likeliest classes of each image file and their probabilities, the likeliest first."""
    import numpy as np

    if artifact.preprocessing is None:
        raise ValueError("the model does not say how images are preprocessed")
    # All are read before any is classified.
    images = [artifact.preprocessing.load(path) for path in paths]
    classified = []
    for image in images:
        probabilities = artifact.predict(image[np.newaxis])[0]
        names = artifact.class_names or tuple(map(str, range(len(probabilities))))
        best = np.argsort(-probabilities, kind="stable")[:top]
        classified.append([(names[index], float(probabilities[index])) for index in best])
    return classified


def main(arguments: list[str]) -> None:
    """Classifies or measures."""
    if len(arguments) < 2 or (len(arguments) > 2) == EVAL.value:
        raise ValueError("give a model and either image files or --eval")
    # It takes seconds to load, which a mistake in the flags need not wait for.
    from smh_jax.shipping import artifact as artifacts

    artifact = artifacts.load(arguments[1])
    if EVAL.value:
        # TensorFlow, which reads datasets, takes longer to load than most images to classify.
        from smh_jax.shipping import from_run

        config = from_run.dataset_of(artifact, DATA_DIR.value)
        accuracy = from_run.with_accuracy(artifact, config).accuracy
        print(
            f"{accuracy['dataset']} {accuracy['split']}: accuracy {accuracy['accuracy']:.2%}, "
            f"loss {accuracy['loss']:.4f}, {accuracy['examples']:,} examples"
        )
        return
    for path, classes in zip(
        arguments[2:], classify(artifact, arguments[2:], TOP.value), strict=True
    ):
        print(f"{path}: " + ", ".join(f"{name} {share:.1%}" for name, share in classes))


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
