"""How pictures write the names of models and datasets."""

from smh_jax.config import DataConfig

_DATA = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashion_mnist": "Fashion-MNIST",
    "imagenet2012": "ImageNet",
}  # fmt: skip
_MODELS = {
    "cifar_resnet": "ResNet-", "resnet": "ResNet-", "efficientnet_b": "EfficientNet-B",
    "mobilenet_v": "MobileNetV", "vit_": "ViT-",
}  # fmt: skip


def model_name(name: str) -> str:
    """'cifar_resnet8' is ResNet-8."""
    for prefix, written in _MODELS.items():
        if name.startswith(prefix):
            return written + name.removeprefix(prefix).replace("_", " ")
    return name


def data_name(data: DataConfig) -> str:
    """A dataset, and how its images are changed: to which size, and otherwise."""
    size = f" at {data.image_size} x {data.image_size} pixels" if data.image_size else ""
    transform = "" if data.transform == "none" else f", {data.transform}"
    return _DATA.get(data.name, data.name) + size + transform
