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
# # From a trained model to a served file
#
# Train a recipe for a few epochs, export it at every precision, and serve the file with this
# project, with onnxruntime, and with NumPy alone. Run it in the project's root.

# %%
import os
import pathlib
import runpy
import tempfile

import jax
import numpy as np
import onnxruntime

import smh_jax
from configs import digits
from smh_jax import data
from smh_jax.config import from_config_dict
from smh_jax.shipping import from_run, onnx
from smh_jax.training.loop import train_and_evaluate

folder = pathlib.Path(tempfile.mkdtemp())

# %% [markdown]
# ## Train
#
# The recipe of the quick start, with a smaller ResNet and fewer epochs.

# %%
config = digits.get_config("depth=8,target_size=18750")
config.epochs = 4
result = train_and_evaluate(config, folder / "run")
print(f"test accuracy {result['test_accuracy']:.1%}, {result['num_variables']:,} variables")

# %% [markdown]
# ## Export
#
# The pools in float32, bfloat16, int8 or int4; everything else stays as it is.

# %%
artifact = from_run.read_artifact(folder / "run")
sizes = {}
for precision in ("float32", "bfloat16", "int8", "int4"):
    path = folder / f"{precision}.smh"
    smh_jax.save(path, artifact, precision=precision)
    sizes[precision] = os.path.getsize(path)
print(sizes, "dense:", 4 * artifact.method.manifest.num_weights)
assert sizes["int4"] < sizes["int8"] < sizes["bfloat16"] < sizes["float32"]

# %% [markdown]
# ## Serve with this project
#
# A file needs no config and no workdir, and nothing in it is executed.

# %%
served = smh_jax.load(folder / "int8.smh")
info = from_config_dict(config).data
split = data.load(data.describe(info.name), "test")
probabilities = served.predict(split.images[:100])
accuracy = float((probabilities.argmax(-1) == split.labels[:100]).mean())
print(f"{accuracy:.0%} of 100 images, classes {served.class_names}")
assert accuracy > 0.7

# %% [markdown]
# ## Serve with onnxruntime
#
# The program has the variables inside and generates the weights while it runs.

# %%
(folder / "model.onnx").write_bytes(onnx.export(served, "on_the_fly"))
session = onnxruntime.InferenceSession(folder / "model.onnx")
normalized = np.asarray(served.preprocessing.normalize(split.images[:100]), np.float32)
(logits,) = session.run(["logits"], {"images": normalized})
np.testing.assert_allclose(jax.nn.softmax(logits), probabilities, atol=1e-4)
print("onnxruntime gives the same probabilities")

# %% [markdown]
# ## A layer with NumPy alone
#
# `docs/read_artifact.py` reads the file without JAX.

# %%
read = runpy.run_path("docs/read_artifact.py")["weights"]
name = "conv/kernel"
layer = read(folder / "int8.smh", name)
ours = served.method.manifest.leaves(served.params)[name]
np.testing.assert_allclose(layer, ours, rtol=1e-4, atol=1e-5)
print(name, layer.shape)
