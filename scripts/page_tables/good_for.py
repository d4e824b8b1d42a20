"""The table of README that says what the method is good for."""

from experiments import markdown
from experiments.answers import difference
from experiments.experiment import Claim
from experiments.tables.small_scale import REDUCED
from scripts.page_tables.committed import of, reported
from scripts.page_tables.speed import convolutional_steps, value_range


def good_for() -> str:
    """What the method is good for, and what not, with what was measured."""

    def against(series: str) -> str:
        ours = of("figure6", "smh", REDUCED.tenth)
        theirs = of("figure6", series, REDUCED.tenth) or of("table1", series, REDUCED.tenth)
        mean, error = difference(Claim("", ours.row.name, theirs.row.name), (ours, theirs))
        return f"{mean:+.2f} ± {error:.2f}"

    steps = convolutional_steps()
    files = {
        (record.row.name, precision): f"{accuracy:.1f}% in {size:,.0f} B"
        for record in reported("frontier")
        for precision, size, accuracy, _ in record.exports
    }
    narrow = files["frontier-width_multiplier_25%-coded:0.5", "coded:0.5"]
    pruned = files["frontier-dense-pruned_90%-coded:1.0", "coded:1.0"]
    dense = files["frontier-dense-coded:1.5", "coded:1.5"]
    counts = sorted({len(record.runs) for record in reported("frontier") if record.runs})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    converted = next(r for r in reported("shipping") if r.row.name == "shipping-converted")
    rows = [
        [
            "narrower layers (width multiplier)",
            f"{against('width_multiplier')} points",
            "Level in accuracy. The narrow model also computes less; SMH computes what the full "
            "model does, and keeps its shapes.",
        ],
        [
            "unstructured hashes",
            f"{against('hash_1')} (1), {against('hash_10')} (10)",
            "Level with 10 hashes. A training step takes SMH "
            f"{value_range(steps, 'smh', 'ratio')} times the dense one, 10 hashes "
            f"{value_range(steps, '10 hashes', 'ratio')} times.",
        ],
        [
            "low rank, Tucker",
            f"{against('low_rank')}, {against('tucker')}",
            "SMH is better at this size.",
        ],
        [
            "other networks in fewer bits",
            files["resnet8-smh-7500", "coded:0.125"],
            f"A network of half the width has {narrow}, dense weights that are pruned {pruned}, "
            f"and not pruned {dense}: SMH is for the smallest files (`docs/bytes.md`).",
        ],
        [
            "a trained model, without more training",
            f"{converted.mean:.0f}% accuracy",
            "Not for that: a converted model has to be fine-tuned.",
        ],
    ]
    text = (
        "SMH at 10% of ResNet-8 on Fashion-MNIST (scale `reduced`, three seeds; files of other "
        f"networks: {seeds}), where there is a sign the difference in points of test accuracy with "
        "its standard error:"
    )
    return f"{text}\n\n" + markdown.table(["instead of", "SMH", ""], rows, text=(0, 1, 2))
