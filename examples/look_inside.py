# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Compress a model and look inside it
#
# A small ResNet whose weights come from a tenth as many variables: how they are generated, what
# the matrix of all weights looks like, and what training changes in it.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import smh_jax
from smh_jax.training import figures, run_figures
from smh_jax.training.pictures.drawing import draw

digits = datasets.load_digits()
images = jnp.asarray(digits.images[..., None] / 16.0, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1437), slice(1437, None)

# %% [markdown]
# ## Compress
#
# `compress` gives a module with the model's own `init` and `apply`. Its "params" are the variables.

# %%
model = smh_jax.compress(
    smh_jax.models.create("cifar_resnet8", num_classes=10),
    images[:2],
    target_size=7_500,
    example_kwargs={"train": False},
)
collections = model.init(jax.random.key(0), images[:2], train=False)
print(model)
print(jax.tree.map(jnp.shape, collections["params"]["pools"]))

# %% [markdown]
# Nothing is stored but these: the weights are one product. Its rank is the number of columns of
# `u`, although every layer for itself has full rank.

# %%
method = model.method
manifest = method.manifest
(shape, rank) = run_figures.matrix_of(method, manifest.num_hashed)
weights = [np.asarray(w) for w in method.generate(collections["params"]["pools"])]
draw(figures.singular_values(manifest.hashed, weights, shape, rank))

# %%
draw(figures.tiled_matrix(manifest.hashed, weights, shape))

# %% [markdown]
# ## Train
#
# A loop of one's own; `smh_jax.optimizer` brings the rates of the recipes to any optax optimizer.

# %%
tx = smh_jax.optimizer(model, optax.sgd(0.2, momentum=0.9))
state = tx.init(collections["params"])


def loss_of(variables, stats, x, y):
    logits, updated = model.apply(
        {"params": variables, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss, updated["batch_stats"]


@jax.jit
def step(variables, stats, state, x, y):
    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(variables, stats, x, y)
    updates, state = tx.update(grads, state, variables)
    return optax.apply_updates(variables, updates), stats, state, loss


variables, stats = collections["params"], collections["batch_stats"]
order = np.random.default_rng(0)
losses = []
for _ in range(150):
    rows = order.integers(0, 1437, 128)
    variables, stats, state, loss = step(variables, stats, state, images[rows], labels[rows])
    losses.append(float(loss))
logits = model.apply({"params": variables, "batch_stats": stats}, images[test], train=False)
accuracy = float((logits.argmax(-1) == labels[test]).mean())
print(f"test accuracy {accuracy:.1%} with {model.num_variables:,} variables")
assert losses[-1] < 0.5 * losses[0]
assert accuracy > 0.7

# %% [markdown]
# ## What training has changed
#
# The learned scales: those of convolutions that batch norm follows are cancelled by it, and change
# the effective learning rate alone.

# %%
sizes = np.cumsum(method.scale_sizes)[:-1]
start = np.split(np.asarray(collections["params"]["scales"]), sizes)
learned = np.split(np.asarray(variables["scales"]), sizes)
draw([figures.learned_scales(manifest.hashed, start, learned)])

# %%
weights = [np.asarray(w) for w in method.generate(variables["pools"])]
draw(figures.singular_values(manifest.hashed, weights, shape, rank))
