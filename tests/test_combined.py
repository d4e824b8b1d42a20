"""Combined pools against the methods that they combine."""

import jax
import numpy as np
import pytest

from smh_jax import Manifest, methods, models
from tests.test_methods import manifest_of, synthetic_manifest
from tests.test_smh import generated


@pytest.mark.parametrize("reducer", ["sum", "product"])
def test_the_parts_are_reduced(reducer):
    manifest = synthetic_manifest([500, 60])
    parts = ("smh:matrix=square", "multi_hash:num_hashes=2,signs=true", "smh:layout=kronecker")
    method = methods.create("combined", manifest, target_size=500, parts=parts, reducer=reducer)
    pools = jax.jit(method.init_pools)(jax.random.key(0))
    alone = [generated(part, pools[str(i)]) for i, part in enumerate(method.methods)]
    expected = np.sum(alone, 0) / np.sqrt(3) if reducer == "sum" else np.prod(alone, 0)
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)
    assert [part.name for part in method.methods] == ["smh", "multi_hash", "smh"]
    assert method.methods[1].signs
    assert method.methods[2].layout == "kronecker"


def test_what_one_part_leaves_goes_to_the_next():
    manifest = synthetic_manifest([500, 60])
    parts = ("smh:matrix=square", "multi_hash")
    method = methods.create("combined", manifest, target_size=301, parts=parts)
    smh, hashes = method.methods
    assert smh.num_hash_pairs * 2 * smh.square_size < 149
    assert method.num_variables == 301
    assert hashes.pool_budget > 150


@pytest.mark.parametrize("hashed", ["conv", "all"])
@pytest.mark.parametrize("scale", ["learnable", "fixed"])
def test_the_budget_is_kept_whatever_is_stored(hashed, scale):
    model = models.create("cifar_resnet8", num_classes=10)
    manifest = Manifest.from_model(model, (1, 8, 8, 3), hashed=hashed)
    parts = ("multi_hash", "multi_hash:hash_seed=1,num_hashes=2")
    method = methods.create("combined", manifest, target_size=7500, parts=parts, scale=scale)
    assert method.num_variables == 7500
    assert all(part.manifest == method.manifest for part in method.methods)
    made = jax.eval_shape(method.materialize, method.abstract_variables)
    assert len(jax.tree.leaves(made)) == len(manifest.tensors)


def test_a_part_that_would_scale_is_refused():
    parts = ("multi_hash:scale=fixed", "multi_hash:scale=fixed,hash_seed=1")
    with pytest.raises(ValueError, match="'multi_hash:scale=fixed' cannot have 'scale'"):
        methods.create("combined", manifest_of("two_layers"), target_size=300, parts=parts)


def test_a_distribution_is_that_of_a_part():
    manifest = synthetic_manifest([4000])
    with pytest.raises(ValueError, match=r"as in 'smh:distribution=uniform'"):
        methods.create("combined", manifest, target_size=900, distribution="uniform")
    uniform = methods.create(
        "combined", manifest, target_size=900, parts=("smh:distribution=uniform", "multi_hash")
    )
    assert uniform.methods[0].pool_distribution == "uniform"


def test_parts_hash_independently():
    manifest = synthetic_manifest([4000])
    with pytest.raises(ValueError, match="would hash alike: their hash_seed is 0, 0"):
        methods.create("combined", manifest, target_size=401, parts=("multi_hash", "multi_hash"))
    method = methods.create(
        "combined", manifest, target_size=401, parts=("multi_hash", "multi_hash:hash_seed=1")
    )
    # Weights that share a variable of the first part: with the same hash functions, of each part.
    pools = {name: np.arange(200.0) for name in "01"}
    first, second = (
        generated(part, pools[str(i)]).astype(int) for i, part in enumerate(method.methods)
    )
    pairs = np.unique(first * 200 + second)
    # Of 40,000 pairs, 4000 draws hit about 3806 different ones.
    assert pairs.size > 3600
