"""Low-rank matrices and scales that come closest to given weights.

Weight i reads entry `entries[i]` of a matrix P of rank M and multiplies it by the scale of its
group. What is minimised is the sum of the squared errors, each divided by the mean square of its
tensor, so that a weight counts the same in every layer, whatever the layer's magnitude:

    sum_i importance[i] (weights[i] - scales[groups[i]] P[entries[i]])^2

Scales and matrix take turns. The best scales have a closed form. The best P is a weighted low-rank
approximation, which has none; a truncated singular value decomposition of P moved towards the
weights, each entry by its share of the largest importance, never raises the error (Srebro and
Jaakkola, Weighted Low-Rank Approximations, 2003, section 3). It starts from P extrapolated along
its last change (Nesterov's momentum), or from P itself where that would raise the error. Entries
that no weight reads keep what they have, and those that several weights read move to their mean.
"""

import dataclasses

import numpy as np
from absl import logging

# An iteration that lowers the squared error by less than this share of it is the last one.
_TOLERANCE = 1e-4
_MAX_ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class Fit:
    """The factors of P and the scales.

    Attributes:
        u: [blocks, rows, M]. v: [blocks, M, columns]. Both halves of a pair have the same norm.
        scales: [number of groups].
        errors: the squared error after each iteration, of which 1 is that of no weights at all.
    """

    u: np.ndarray
    v: np.ndarray
    scales: np.ndarray
    errors: tuple[float, ...]


def fit(
    weights: np.ndarray,
    importance: np.ndarray,
    entries: np.ndarray,
    groups: np.ndarray,
    *,
    shape: tuple[int, int, int],
    rank: int,
    learn_scales: bool = True,
) -> Fit:
    """Alternates between scales and matrix until the error stays.

    Args:
        weights, importance: [N], the values and the factors of their squared errors.
        entries: [N], index of the entry that each weight reads; -1 for weights that read none.
        groups: [N], index of each weight's scale.
        shape: blocks, rows and columns of the matrices, to whose ravelled entries `entries` refers.
        rank: M.
        learn_scales: whether scales are fitted; otherwise they stay 1.
    """
    # Also those of which no weight reads an entry.
    num_groups = int(groups.max()) + 1
    read = entries >= 0
    weights, importance, entries, groups = (
        np.asarray(x)[read] for x in (weights, importance, entries, groups)
    )
    num_entries = int(np.prod(shape))

    def by_group(values: np.ndarray) -> np.ndarray:
        return np.bincount(groups, values, num_groups)

    def by_entry(values: np.ndarray) -> np.ndarray:
        return np.bincount(entries, values, num_entries)

    scales = np.ones(num_groups)
    if learn_scales:
        # A group's root mean square: its entries start at unit magnitude.
        scales = np.sqrt(by_group(weights**2) / np.maximum(by_group(np.ones_like(weights)), 1))
    total = float(np.sum(importance * weights**2)) or 1.0

    def error_of(scales: np.ndarray, matrix: np.ndarray) -> float:
        residual = weights - scales[groups] * matrix[entries]
        return float(np.sum(importance * residual**2)) / total

    u, v = np.zeros((*shape[:2], rank)), np.zeros((shape[0], rank, shape[2]))
    matrix = previous = np.zeros(num_entries)
    errors, momentum = [1.0], 0
    for iteration in range(1, _MAX_ITERATIONS + 1):
        # Importance, and where the weights pull, of every entry.
        pull = by_entry(importance * scales[groups] * weights)
        stiffness = by_entry(importance * scales[groups] ** 2)
        start = matrix + momentum / (momentum + 3) * (matrix - previous)
        target = start + (pull - stiffness * start) / (stiffness.max() or 1.0)
        new_u, new_v = truncate(target.reshape(shape), rank)
        new_matrix, new_scales = (new_u @ new_v).ravel(), scales
        product = new_matrix[entries]
        if learn_scales:
            norms = by_group(importance * product**2)
            dots = by_group(importance * product * weights)
            new_scales = np.where(norms > 0, dots / np.where(norms > 0, norms, 1), scales)
        error = error_of(new_scales, new_matrix)
        if error > errors[-1] and momentum:
            momentum = 0  # too far: once more from where it was
            continue
        gain = 1 - error / (errors[-1] or 1.0)
        u, v, scales, previous, matrix = new_u, new_v, new_scales, matrix, new_matrix
        momentum += 1
        errors.append(error)
        logging.log_every_n_seconds(
            logging.INFO, "fitting: iteration %d, squared error %.4f", 10, iteration, error
        )
        if gain < _TOLERANCE:
            break
    return Fit(u, v, scales, tuple(errors[1:]))


def truncate(matrices: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors [blocks, rows, rank] and [blocks, rank, columns] of the nearest matrices of a rank.

    By the eigenvectors of the smaller Gram matrix that belong to the largest eigenvalues: for
    ranks far below the side a fraction of the time of the whole decomposition. Where the rank
    is above the smaller side of the matrices [blocks, rows, columns], the rest of the factors is 0.
    """
    # Slow to import, and needed for conversion only.
    import scipy.linalg

    blocks, rows, columns = matrices.shape
    if rows < columns:
        v, u = truncate(matrices.transpose(0, 2, 1), rank)
        return u.transpose(0, 2, 1), v.transpose(0, 2, 1)
    u, v = np.zeros((blocks, rows, rank)), np.zeros((blocks, rank, columns))
    kept = min(rank, columns)
    for index, matrix in enumerate(matrices):
        squares, vectors = scipy.linalg.eigh(
            matrix.T @ matrix, subset_by_index=[columns - kept, columns - 1]
        )
        # Singular values in descending order, shared between both factors.
        roots = np.maximum(squares[::-1], 0) ** 0.25
        vectors = vectors[:, ::-1]
        divisors = np.where(roots > 0, roots, 1)
        u[index, :, :kept] = matrix @ vectors / divisors
        v[index, :kept] = (vectors * roots).T
    return u, v
