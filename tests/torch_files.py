"""Writes a PyTorch library's model with random weights, and its logits of given images.

python -m tests.torch_files LIBRARY MODEL FOLDER    reads images.npy there
"""

import pathlib
import sys

import numpy as np
import torch

from smh_jax import models


def of_timm(name: str) -> torch.nn.Module:
    import timm

    return timm.create_model(name)


def of_torchvision(name: str) -> torch.nn.Module:
    import torchvision

    return getattr(torchvision.models, name)()


def of_transformers(name: str) -> torch.nn.Module:
    import transformers as hf

    if name.startswith("mobilenet_v2"):
        config = hf.MobileNetV2Config(tf_padding=name == "mobilenet_v2", num_labels=10)
        return hf.MobileNetV2ForImageClassification(config)
    like = models.create(name, num_classes=10)
    if name.startswith("resnet"):
        config = hf.ResNetConfig(
            depths=list(like.stage_sizes),
            hidden_sizes=[(4 if like.bottleneck else 1) * width for width in (64, 128, 256, 512)],
            layer_type="bottleneck" if like.bottleneck else "basic",
            num_labels=10,
        )
        return hf.ResNetForImageClassification(config)
    config = hf.EfficientNetConfig(
        width_coefficient=like.width_coefficient,
        depth_coefficient=like.depth_coefficient,
        hidden_dim=like._filters(1280),
        num_labels=10,
    )
    return hf.EfficientNetForImageClassification(config)


def randomize(module: torch.nn.Module, images: torch.Tensor) -> None:
    """Gives a module random weights, and batch norms the statistics of the images."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.uniform_(0.3, 0.9)
            part.bias.normal_(0, 1.5)
        elif isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                part.bias.normal_(0, 1)
    module.eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train()
            # The running statistics become those of the one batch.
            part.momentum = 1.0
    module(images)
    module.eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            # A channel that is always 0 or always 6 would be an amplifier of rounding errors.
            part.running_var.clamp_(min=0.01)


@torch.no_grad()
def main(library: str, name: str, folder: str) -> None:
    """Writes model.pt, of Hugging Face and timm model.safetensors, and logits.npy."""
    folder = pathlib.Path(folder)
    torch.set_num_threads(1)
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2).contiguous()
    module = {"timm": of_timm, "torchvision": of_torchvision}.get(library, of_transformers)(name)
    randomize(module, images)
    if library == "torchvision":
        torch.save(module.state_dict(), folder / "model.pt")
    else:
        import safetensors.torch

        safetensors.torch.save_file(module.state_dict(), folder / "model.safetensors")
    logits = module(images)
    np.save(folder / "logits.npy", getattr(logits, "logits", logits).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
