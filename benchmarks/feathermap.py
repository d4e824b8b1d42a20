"""FeatherMap's way of generating weights in PyTorch, timed for benchmarks.peer in its own process.

    python -m benchmarks.feathermap training:resnet18:64:32:10

serves its candidates (benchmarks.other_process). TensorFlow, which the JAX side loads, and
torchvision in one process may crash.
"""

import math
import os
import sys
from collections.abc import Callable

# Threads that have nothing to do take no processor time from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torchvision
from torch import nn

from benchmarks import other_process

Call = Callable[[], object]


class FeatherMap(nn.Module):
    """A module whose weights and biases are slices of one product, each times its scale.

    After github.com/phelps-matthew/FeatherMap (feathernet.py): everything but batch norm is
    generated from V1 [n, m] and V2 [m, n], with n^2 at least the number of weights and
    m = ceil(compress * n / 2). Corrected are the places of a bias, and the order of the parts of a
    weight; neither costs time.
    """

    def __init__(self, module: nn.Module, compress: float):
        super().__init__()
        self.module = module
        self._places: list[tuple[nn.Module, str, torch.Size, int]] = []
        size = 0
        for layer in [*module.modules()]:
            if isinstance(layer, nn.BatchNorm2d):
                continue
            for kind in ("weight", "bias"):
                if layer._parameters.get(kind) is None:
                    continue
                tensor = layer._parameters.pop(kind).data
                if kind == "weight":
                    scale = 1 / math.sqrt(3 * tensor[0].numel())
                layer.register_parameter(f"{kind}_p", nn.Parameter(torch.tensor([scale])))
                self._places.append((layer, kind, tensor.shape, size))
                size += tensor.numel()
        n = math.ceil(math.sqrt(size))
        m = math.ceil(compress * n / 2)
        bound = math.sqrt(3) * m**-0.25
        self.v1 = nn.Parameter(torch.empty(n, m).uniform_(-bound, bound))
        self.v2 = nn.Parameter(torch.empty(m, n).uniform_(-bound, bound))

    def generate(self) -> None:
        """Makes all weights of one product, of which each layer's is a slice."""
        flat = (self.v1 @ self.v2).view(-1)
        for layer, kind, shape, first in self._places:
            weights = flat[first : first + shape.numel()].reshape(shape)
            setattr(layer, kind, getattr(layer, f"{kind}_p") * weights)

    def deploy(self) -> None:
        """Lets each layer make its weights when it is called, and drop them after."""
        for layer in dict.fromkeys(layer for layer, *_ in self._places):
            own = [
                (kind, shape, self._parts(first, first + shape.numel()))
                for owner, kind, shape, first in self._places
                if owner is layer
            ]
            layer.register_forward_pre_hook(lambda layer, _, own=own: _load(layer, own))
            layer.register_forward_hook(lambda layer, *_, own=own: _unload(layer, own))

    def _parts(self, first: int, last: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Factors of entries [first, last): the end of a row, whole rows, the beginning of one."""
        v1, v2, n = self.v1.data, self.v2.data, self.v2.shape[1]
        (i, j), (k, end) = divmod(first, n), divmod(last, n)
        if i == k:
            return [(v1[i], v2[:, j:end])]
        parts = [(v1[i], v2[:, j:])] if j else []
        whole = i + (j > 0)
        parts += [(v1[whole:k], v2)] if whole < k else []
        return parts + ([(v1[k], v2[:, :end])] if end else [])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        return self.module(images)


def _load(layer: nn.Module, own: list) -> None:
    for kind, shape, parts in own:
        products = [torch.matmul(*factors).view(-1) for factors in parts]
        weights = products[0] if len(products) == 1 else torch.cat(products)
        setattr(layer, kind, (getattr(layer, f"{kind}_p") * weights).reshape(shape))


def _unload(layer: nn.Module, own: list) -> None:
    for kind, *_ in own:
        setattr(layer, kind, None)


def candidates(
    what: str, model_name: str, side: int, batch: int, percent: int
) -> tuple[dict[str, Call], int]:
    """What is timed, by name, and the number of variables that FeatherMap trains."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, side, side)
    labels = torch.randint(1000, (batch,))
    dense, cached, per_layer = (getattr(torchvision.models, model_name)() for _ in range(3))
    cached = FeatherMap(cached, percent / 100)
    num_variables = sum(parameter.numel() for parameter in cached.parameters())
    if what == "training":
        return {
            "dense": _training(dense, images, labels, lambda: None),
            "FeatherMap": _training(cached, images, labels, cached.generate),
        }, num_variables
    per_layer = FeatherMap(per_layer, percent / 100)
    per_layer.deploy()
    return {
        "dense": _prediction(dense, images, lambda: None),
        "FeatherMap, all at once": _prediction(cached, images, cached.generate),
        "FeatherMap, on the fly": _prediction(per_layer, images, lambda: None),
    }, num_variables


def _training(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generate: Call) -> Call:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    model.train()

    def step() -> float:
        optimizer.zero_grad()
        generate()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _prediction(model: nn.Module, images: torch.Tensor, generate: Call) -> Call:
    model.eval()

    def predict() -> torch.Tensor:
        with torch.no_grad():
            generate()
            return model(images)

    return predict


if __name__ == "__main__":
    what_, model_, *numbers = sys.argv[1].split(":")
    calls, num_variables_ = candidates(what_, model_, *map(int, numbers))
    facts = {"num_variables": num_variables_, "torch": torch.__version__}
    other_process.serve(calls, facts)
