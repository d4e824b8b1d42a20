"""Transformers in NumPy and float64, written from the papers alone, on the weights of ours.

Vision: Dosovitskiy et al. 2021, equations 1 to 4. Language: Radford et al. 2019, section 2.3, whose
GELU is the one by tanh of Hendrycks and Gimpel 2016, section 2.
"""

import math

import numpy as np


def vision(params, images, *, num_heads, patch_size, epsilon=1e-6):
    """Logits [batch, classes] of images [batch, height, width, channels]."""
    batch, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    embedded = np.zeros((batch, rows * columns, params["patches"]["bias"].size))
    # A patch is a vector of its pixels, row by row.
    kernel = params["patches"]["kernel"].reshape(patch_size**2 * channels, -1)
    for row in range(rows):
        for column in range(columns):
            top, left = row * patch_size, column * patch_size
            patch = images[:, top : top + patch_size, left : left + patch_size]
            pixels = patch.reshape(batch, -1)
            embedded[:, row * columns + column] = pixels @ kernel + params["patches"]["bias"]
    token = np.repeat(params["class_token"], batch, axis=0)
    x = np.concatenate([token, embedded], axis=1) + params["positions"]
    x = _blocks(params, x, num_heads, epsilon, _exact_gelu, causal=False)
    features = _layer_norm(x, params["norm"], epsilon)[:, 0]
    return features @ params["classifier"]["kernel"] + params["classifier"]["bias"]


def language(params, tokens, *, num_heads, epsilon=1e-5):
    """Logits [batch, length, vocabulary] of tokens [batch, length]."""
    table = params["embedding"]
    x = table[tokens] + params["positions"][: tokens.shape[1]]
    x = _blocks(params, x, num_heads, epsilon, _tanh_gelu, causal=True)
    return _layer_norm(x, params["norm"], epsilon) @ table.T


def _blocks(params, x, num_heads, epsilon, gelu, causal):
    depth = sum(name.startswith("block") for name in params)
    for number in range(1, depth + 1):
        block = params[f"block{number}"]
        normed = _layer_norm(x, block["norm1"], epsilon)
        x = x + np.stack([_attention(one, block["attention"], num_heads, causal) for one in normed])
        hidden = gelu(_dense(_layer_norm(x, block["norm2"], epsilon), block["expand"]))
        x = x + _dense(hidden, block["project"])
    return x


def _attention(x, params, num_heads, causal):
    """Of one sequence [length, width], head by head and position by position."""
    length, width = x.shape
    size = width // num_heads
    queries, keys, values = np.split(_dense(x, params["qkv"]), 3, axis=1)
    attended = np.zeros((length, width))
    for head in range(num_heads):
        own = slice(head * size, (head + 1) * size)
        for position in range(length):
            last = position + 1 if causal else length
            scores = keys[:last, own] @ queries[position, own] / math.sqrt(size)
            shares = np.exp(scores - scores.max())
            attended[position, own] = shares @ values[:last, own] / shares.sum()
    return _dense(attended, params["output"])


def _dense(x, params):
    return x @ params["kernel"] + params["bias"]


def _layer_norm(x, params, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * params["scale"] + params["bias"]


def _exact_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
