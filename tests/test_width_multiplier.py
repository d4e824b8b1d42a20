"""The width multiplier that meets a target size."""

import functools

import jax
import jax.numpy as jnp
import pytest

from smh_jax import Manifest, models
from smh_jax.models import width_multiplier
from tests.small import few_quick

# Sizes of the paper's Figure 6, read out of the drawing, and the multipliers they stand for.
FIGURE_6 = {1 / 8: 7_600, 1 / 4: 29_400, 3 / 8: 65_500, 1 / 2: 115_800}


@functools.cache
def size(name, multiplier):
    """Trainable elements, counted on the params themselves."""
    model = models.create(name, num_classes=10, width_multiplier=multiplier)
    image = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def resnet8_size(multiplier):
    """The same for a ResNet-8 on colour images, in closed form."""
    a, b, c = (round(width * multiplier) for width in (16, 32, 64))
    convolutions = 9 * (3 * a + 2 * a * a + a * b + b * b + b * c + c * c)
    return convolutions + 2 * (3 * a + 2 * b + 2 * c) + 10 * c + 10


@pytest.mark.parametrize("multiplier", FIGURE_6)
def test_figure_6_is_eighths_of_the_width(multiplier):
    exact = size("cifar_resnet32", multiplier)
    assert exact == pytest.approx(FIGURE_6[multiplier], rel=0.01)


@pytest.mark.slow
def test_a_size_of_figure_6_gives_its_width():
    exact = size("cifar_resnet32", 1 / 8)
    solution = width_multiplier.solve("cifar_resnet32", exact)
    assert solution.num_weights == exact
    assert solution.width_multiplier == 0.13
    assert size("cifar_resnet32", 0.13) == exact


@pytest.mark.slow
def test_one_variable_less_does_not_hold_the_width():
    exact = size("cifar_resnet8", 0.5)
    assert width_multiplier.solve("cifar_resnet8", exact).num_weights == exact
    assert width_multiplier.solve("cifar_resnet8", exact - 1).num_weights < exact


@pytest.mark.parametrize("target", few_quick([7_777, 300, 75_000], 1))
def test_it_is_the_last_step_that_fits(target):
    solution = width_multiplier.solve("cifar_resnet8", target)
    # Widths 16, 32 and 64 change at odd multiples of 1/32, 1/64 and 1/128: one multiplier between
    # each two of these goes through every size that exists.
    sizes = [resnet8_size(i / 256) for i in range(9, 257, 2)]
    assert resnet8_size(0.3) == size("cifar_resnet8", 0.3)
    assert len(set(sizes)) > 100
    assert solution.num_weights == max(s for s in sizes if s <= target)
    assert size("cifar_resnet8", solution.width_multiplier) == solution.num_weights


@pytest.mark.slow
def test_the_whole_model_and_wider_ones():
    whole = size("cifar_resnet8", 1.0)
    assert width_multiplier.solve("cifar_resnet8", whole) == width_multiplier.Solution(1.0, whole)
    wide = width_multiplier.solve("cifar_resnet8", 4 * whole, max_multiplier=3.0)
    assert 3.8 * whole < wide.num_weights <= 4 * whole
    assert 1.9 < wide.width_multiplier < 2.1


@pytest.mark.parametrize("target", few_quick([80_000, 10], 1))
def test_impossible_targets(target):
    smallest, whole = size("cifar_resnet8", 9 / 256), size("cifar_resnet8", 1.0)
    message = f"target_size={target} .* between {smallest} and {whole} weights"
    with pytest.raises(ValueError, match=message):
        width_multiplier.solve("cifar_resnet8", target)
    found = width_multiplier.solve("cifar_resnet8", smallest)
    assert found.num_weights == smallest
    with pytest.raises(ValueError, match="impossible"):
        width_multiplier.solve("cifar_resnet8", smallest - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar_resnet9"}, "not 6n"),
        ({"name": "cifar_resnet8", "depht": 3}, "no option 'depht'"),
        ({"name": "cifar_resnet8", "width_multiplier": 0.5}, "cannot be given"),
        (
            {"name": "cifar_resnet8", "max_multiplier": 0.0},
            "max_multiplier=0.0 must be finite and at least",
        ),
        ({"name": "cifar_resnet8", "max_multiplier": 0.01}, "leaves no channel"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        width_multiplier.solve(target_size=5_000, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small"]
)
def test_every_family_comes_closest_below_the_target(name):
    def size(multiplier):
        model = models.create(name, num_classes=1000, width_multiplier=multiplier)
        return Manifest.from_model(model, (1, 64, 64, 3), measure=False).num_weights

    target = size(1.0) * 6 // 10
    solution = width_multiplier.solve(name, target, num_classes=1000, input_shape=(1, 64, 64, 3))
    assert solution.num_weights == size(solution.width_multiplier) <= target
    # The next larger size, wherever its multiplier is, does not fit.
    larger = next(
        found
        for step in range(1, 2000)
        if (found := size(solution.width_multiplier + step / 200)) > solution.num_weights
    )
    assert larger > target
