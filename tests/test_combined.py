"""Combined pools against the methods that they combine."""

import jax
import numpy as np
import pytest

from smh_jax import methods
from tests.test_methods import synthetic_manifest
from tests.test_smh import generated


@pytest.mark.parametrize("reducer", ["sum", "product"])
def test_the_parts_are_reduced(reducer):
    manifest = synthetic_manifest([500, 60])
    parts = ("smh:matrix=square", "multi_hash:num_hashes=2,signs=true", "smh:layout=kronecker")
    method = methods.create("combined", manifest, target_size=500, parts=parts, reducer=reducer)
    pools = method.init_pools(jax.random.key(0))
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
