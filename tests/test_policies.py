"""AutoAugment and RandAugment: what is drawn is what is done."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import photos
from smh_jax.data import image_operations as ops
from smh_jax.data import policies

# Neither black nor white anywhere, so that every operation has something to do.
IMAGE = tf.constant(np.asarray(photos.photo(0, 48, 40)) // 2 + 40)


def operations_of(pairs):
    table, probabilities, levels = policies._policy_v0()
    return [
        [
            (policies.OPERATIONS[table[p][at]], probabilities[p][at], levels[p][at])
            for at in range(2)
        ]
        for p in pairs
    ]


def enhancement(level):
    return np.float32(1.8) * np.float32(level / 10) + np.float32(0.1)


def shear(level):
    return np.float32(0.3) * np.float32(level / 10)


def draws(pair, chances, sides=(0.2, 0.2)):
    """Draws that choose a pair of AutoAugment's, with a chance and a side for each operation."""
    first = ((pair + 0.5) / 25, chances[0], sides[0], 0.5, 0.5)
    return tf.constant([first, (0.0, chances[1], sides[1], 0.5, 0.5)])


def test_policy_v0_has_the_published_pairs():
    pairs = operations_of(range(25))
    counts = collections.Counter(name for pair in pairs for name, _, _ in pair)
    assert counts == {
        "equalize": 12, "color": 9, "solarize": 8, "rotate": 7, "shear_y": 4, "posterize": 2,
        "solarize_add": 2, "shear_x": 2, "autocontrast": 2, "invert": 1, "translate_y": 1,
    }  # fmt: skip
    assert pairs[0] == [("equalize", 0.8, 1.0), ("shear_y", 0.8, 4.0)]
    assert pairs[24] == [("color", 0.8, 6.0), ("rotate", 0.4, 5.0)]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (0, lambda x: ops.shear_y(ops.equalize(x), shear(4))),
        (1, lambda x: ops.equalize(ops.color(x, enhancement(9)))),
        (6, lambda x: ops.solarize_add(ops.equalize(x), 33)),
        (9, lambda x: ops.rotate(ops.invert(x), 0.0)),
        (12, lambda x: ops.autocontrast(ops.posterize(x, 2))),
        (13, lambda x: ops.color(ops.solarize(x, 204), enhancement(9))),
        (15, lambda x: ops.translate_y(ops.rotate(x, 21.0), 225.0)),
        (22, lambda x: ops.solarize(ops.posterize(x, 1), 256)),
    ],
)
def test_a_pair_of_autoaugment(pair, expected):
    (((_, first, _), (_, second, _)),) = operations_of([pair])
    done = policies.autoaugment_v0(IMAGE, draws(pair, (first - 0.01, second - 0.01)))
    np.testing.assert_array_equal(done, expected(IMAGE))
    # Of an operation whose chance is not drawn nothing is done.
    none = policies.autoaugment_v0(IMAGE, draws(pair, (first + 0.01, second + 0.01)))
    if max(first, second) < 1.0:
        np.testing.assert_array_equal(none, IMAGE)


def test_the_side_of_a_geometric_operation_is_drawn():
    # Pair 7 is a shear and a rotation.
    done = policies.autoaugment_v0(IMAGE, draws(7, (0.1, 0.5), sides=(0.2, 0.8)))
    np.testing.assert_array_equal(done, ops.rotate(ops.shear_x(IMAGE, shear(9)), -24.0))
    other = policies.autoaugment_v0(IMAGE, draws(7, (0.1, 0.5), sides=(0.8, 0.2)))
    np.testing.assert_array_equal(other, ops.rotate(ops.shear_x(IMAGE, -shear(9)), 24.0))


def test_randaugment_does_every_operation_at_its_magnitude():
    expected = {
        "autocontrast": ops.autocontrast(IMAGE),
        "equalize": ops.equalize(IMAGE),
        "invert": ops.invert(IMAGE),
        "rotate": ops.rotate(IMAGE, 15.0),
        "posterize": ops.posterize(IMAGE, 2),
        "solarize": ops.solarize(IMAGE, 128),
        "solarize_add": ops.solarize_add(IMAGE, 55),
        "color": ops.color(IMAGE, 1.0),
        "contrast": ops.contrast(IMAGE, 1.0),
        "brightness": ops.brightness(IMAGE, 1.0),
        "sharpness": ops.sharpness(IMAGE, 1.0),
        "shear_x": ops.shear_x(IMAGE, shear(5)),
        "shear_y": ops.shear_y(IMAGE, shear(5)),
        "translate_x": ops.translate_x(IMAGE, 50.0),
        "translate_y": ops.translate_y(IMAGE, 50.0),
        # A hole of 40 pixels at level 10, around a quarter of the height and half the width.
        "cutout": ops.cutout(IMAGE, 20, (10, 24)),
    }
    assert set(expected) == set(policies.OPERATIONS)
    changed = 0
    for number, name in enumerate(policies.OPERATIONS):
        layer = [(number + 0.5) / len(policies.OPERATIONS), 0.9, 0.2, 0.25, 0.5]
        done = policies.randaugment(IMAGE, tf.constant([layer]), magnitude=5.0)
        np.testing.assert_array_equal(done, expected[name], err_msg=name)
        changed += np.any(done != IMAGE)
    # Factor 1 changes nothing.
    assert changed == len(expected) - 4


def test_randaugment_does_its_layers_in_turn():
    numbers = [policies.OPERATIONS.index(name) for name in ("invert", "shear_x", "equalize")]
    layers = [[(n + 0.5) / len(policies.OPERATIONS), 0.9, 0.8, 0.5, 0.5] for n in numbers]
    done = policies.randaugment(IMAGE, tf.constant(layers), magnitude=8.0)
    np.testing.assert_array_equal(done, ops.equalize(ops.shear_x(ops.invert(IMAGE), -shear(8))))
