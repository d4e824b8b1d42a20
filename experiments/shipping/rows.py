"""What is trained, and from what; every row has a folder of its own."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import digits, fashion_mnist
from smh_jax import methods
from smh_jax.config import Config, MethodConfig, from_config_dict
from smh_jax.shipping import conversion
from smh_jax.training import loop as train

SEEDS = (0, 1, 2)
TARGET_SIZE = 18_750  # a quarter of ResNet-8's 75,002 weights
_HELD_OUT = {"data.train_split": "train[:90%]", "data.eval_split": "train[90%:]"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One folder: a run, or a conversion where `convert_from` names the run to convert.

    Attributes:
        recipe: 'fashion_mnist' or 'digits', with its string arguments.
        overrides: config fields by dotted name. A value '@name' stands for another row's folder.
        convert_from: name of a dense row.
    """

    recipe: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convert_from: str | None = None


def rows() -> dict[str, Row]:
    """All rows by name, each after those that it needs."""
    made: dict[str, Row] = {}
    made |= {f"fashion_dense_s{s}": Row(f"fashion_mnist:method=dense,seed={s}") for s in SEEDS}
    made |= {f"fashion_converted_s{s}": Row(convert_from=f"fashion_dense_s{s}") for s in SEEDS}
    made["heldout_dense_s0"] = Row("fashion_mnist:method=dense", _HELD_OUT)
    made["heldout_converted_s0"] = Row(convert_from="heldout_dense_s0")

    def smh(name: str, epochs: float, seed: int, suffix: str = "", **overrides: Any) -> None:
        fields = {field.replace("__", "."): value for field, value in overrides.items()}
        recipe = f"fashion_mnist:target_size={TARGET_SIZE},epochs={float(epochs)},seed={seed}"
        made[f"{name}_e{epochs:g}{suffix}"] = Row(recipe, fields)

    for rate in (0.2, 0.4, 0.8, 1.6):
        optimizer = {"optimizer__learning_rate": rate, **_HELD_OUT}
        smh("heldout_smh25", 5, 0, f"_r{rate}", **optimizer)
    for rate in (0.1, 0.2, 0.4, 0.8):
        optimizer = {"optimizer__learning_rate": rate, **_HELD_OUT}
        smh("heldout_ft25", 2.5, 0, f"_r{rate}", init_from="@heldout_converted_s0", **optimizer)
    for s in SEEDS:
        teacher = {"distillation__teacher": f"@fashion_dense_s{s}"}
        converted = {"init_from": f"@fashion_converted_s{s}"}
        smh("fashion_smh25", 2.5, s, f"_s{s}")
        smh("fashion_smh25", 5, s, f"_s{s}")
        smh("fashion_smh25", 5, s, f"_r0.8_s{s}", optimizer__learning_rate=0.8)
        smh("fashion_distill25", 5, s, f"_s{s}", **teacher)
        smh("fashion_ft25", 2.5, s, f"_s{s}", **converted)
        smh("fashion_ftdistill25", 2.5, s, f"_s{s}", **converted, **teacher)
    made["fashion_smh10"] = Row("fashion_mnist:target_size=7500")
    made["digits_smh10"] = Row("digits:target_size=27000")
    for name, data, epochs, rate in (
        ("fashion_smh10_int4_short", "fashion_mnist:target_size=7500", 2.0, 0.1),
        ("fashion_smh10_int4", "fashion_mnist:target_size=7500", 5.0, 0.2),
        ("digits_smh10_int4", "digits:target_size=27000", 10.0, 0.1),
    ):
        source = f"@{name.partition('_int4')[0]}"
        tuning = {"init_from": source, "optimizer.learning_rate": rate, "epochs": epochs}
        made[name] = Row(data, {**tuning, "pool_precision": "int4"})
    return made


def precision_rows() -> list[str]:
    """Names of the rows that are exported at every precision."""
    return [name for name in rows() if "_smh10" in name]


def config(row: Row, workdir: pathlib.Path) -> Config:
    """The configuration of a row that is a run, among the folders of the others."""
    name, _, arguments = row.recipe.partition(":")
    recipes = {"digits": digits, "fashion_mnist": fashion_mnist}
    content: ConfigDict = recipes[name].get_config(arguments)
    for field, value in row.overrides.items():
        if isinstance(value, str) and value.startswith("@"):
            value = str(workdir / value.removeprefix("@"))
        content.update_from_flattened_dict({field: value})
    return from_config_dict(content)


def run(name: str, row: Row, workdir: pathlib.Path) -> bool:
    """Makes a row's folder unless it is complete; False if the process was told to end."""
    folder = workdir / name
    if row.convert_from is None:
        return train.train_and_evaluate(config(row, workdir), folder) is not None
    if not (folder / "conversion.json").exists():
        source = workdir / row.convert_from
        method = MethodConfig("smh", "all", TARGET_SIZE, methods.default_options("smh"))
        conversion.convert(*conversion.of_run(source, method), folder, row.convert_from)
    return True
