"""From a configuration to the objects of a run, with every mistake found on the way."""

import dataclasses

import flax.linen as nn

from smh_jax import data, methods, models, parallel
from smh_jax.config import Config
from smh_jax.manifest import Manifest


@dataclasses.dataclass(frozen=True)
class Run:
    """What a configuration stands for.

    Attributes:
        config: the configuration.
        dataset: what is known of the dataset before it is read.
        model: the base model.
        method: how its weights are made; its `manifest` says which of them.
    """

    config: Config
    dataset: data.DatasetInfo
    model: nn.Module
    method: methods.Method

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of a batch of one image."""
        return (1, *self.dataset.image_shape)

    @property
    def local_model(self) -> nn.Module:
        """The model outside of a mapped step, where no axis has a name; of the same weights."""
        return self.model.clone(axis_name=None)


def build(config: Config, manifest: Manifest | None = None) -> Run:
    """Builds the objects of a run; reads no data and allocates no weights beyond measuring them.

    Args:
        config: the configuration.
        manifest: of the same model and hashed set, to be used in place of a new measurement.

    Raises:
        ValueError: for an unknown name, an impossible target size, an expression that matches
            nothing and so on; the message names the field, the value and what would be right.
    """
    parallel.check_batch_size("data.batch_size", config.data.batch_size)
    dataset = data.describe(
        config.data.name,
        config.data.data_dir,
        config.data.image_size,
        config.data.preprocessing,
    )
    model = models.create(
        config.model.name,
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS_NAME if config.batch_norm == "synced" else None,
        **config.model.options,
    )
    # The axis has its name inside of a step only.
    found = Manifest.from_model(
        model.clone(axis_name=None),
        (1, *dataset.image_shape),
        config.method.hashed,
        measure=manifest is None,
    )
    if manifest is None:
        manifest = found
    elif not manifest.same_tensors(found):
        raise ValueError(
            f"the manifest given for model.name={config.model.name!r} describes other tensors "
            "than the model has; another version of the model made it"
        )
    method = methods.create(
        config.method.name,
        manifest,
        target_size=config.method.target_size,
        **config.method.options,
    )
    return Run(config, dataset, model, method)
