"""Prediction of the next token of texts."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax import data
from smh_jax.config import DataConfig
from smh_jax.data.characters import TokenInput, decode, encode
from smh_jax.training.tasks.base import Batch, Task


class NextToken(Task):
    """Batches have `tokens` and, of each of them, the `next` one, both [batch, length]."""

    name = "next_token"
    takes = "tokens"
    input = "tokens"

    def describe(self, config: DataConfig) -> "data.text.TextInfo":
        return data.text.describe(config.name, config.data_dir, config.context_length)

    def load(
        self, dataset: "data.text.TextInfo", split: str, config: DataConfig
    ) -> "data.text.TextSplit":
        return data.text.load(dataset, split, config.data_dir)

    def train_batches(
        self,
        split: "data.text.TextSplit",
        dataset: "data.text.TextInfo",
        config: DataConfig,
        **which: int,
    ) -> Iterator[Batch]:
        return data.text.train_batches(split, batch_size=config.batch_size, **which)

    def eval_batches(
        self,
        split: "data.text.TextSplit",
        dataset: "data.text.TextInfo",
        config: DataConfig,
        **which: int,
    ) -> Iterator[Batch]:
        return data.text.eval_batches(split, **which)

    def abstract_batch(self, dataset: "data.text.TextInfo", size: int, dtype: str) -> Batch:
        tokens = jax.ShapeDtypeStruct((size, dataset.context_length), jnp.int32)
        return {"tokens": tokens, "next": tokens}

    def measure(
        self, logits: jax.Array, batch: Batch, label_smoothing: float
    ) -> dict[str, jax.Array]:
        logs, following = jax.nn.log_softmax(logits), batch["next"]
        # No table of zeros and ones: vocabularies are large.
        loss = -jnp.take_along_axis(logs, following[..., jnp.newaxis], axis=-1)[..., 0]
        if label_smoothing:
            loss = (1 - label_smoothing) * loss - label_smoothing * jnp.mean(logs, axis=-1)
        return {"loss": loss, "correct": jnp.argmax(logits, -1) == following}

    def derived(
        self, measured: Mapping[str, float], dataset: "data.text.TextInfo"
    ) -> dict[str, float]:
        token = "character" if dataset.class_names else "token"
        return {f"bits_per_{token}": measured["loss"] / math.log(2)}

    def headline(self, result: Mapping[str, Any]) -> str:
        token = "character" if "test_bits_per_character" in result else "token"
        bits = result[f"test_bits_per_{token}"]
        return f"{bits:.3f} bits per {token} of {result['test_examples']:,}"

    def preprocessing(self, dataset: "data.text.TextInfo") -> TokenInput:
        return TokenInput(dataset.context_length, dataset.num_classes, dataset.encoding)

    def read_preprocessing(self, fields: Mapping[str, Any]) -> TokenInput:
        return TokenInput(**fields)

    def predict(
        self, artifact: Any, arguments: Sequence[str], options: Mapping[str, Any]
    ) -> Iterator[str]:
        """The prompts, each continued by `length` tokens that are drawn one by one.

        A `temperature` of 0 always takes the likeliest; the `seed` decides every draw.
        """
        to_tokens, to_text = _coding(artifact)
        prompts = [to_tokens(text) for text in arguments]
        for text, prompt in zip(arguments, prompts, strict=True):
            if not prompt:
                raise ValueError("a prompt must have at least one character")
            random = np.random.default_rng(options["seed"])
            tokens = _continued(artifact, prompt, options["length"], options["temperature"], random)
            yield text + to_text(tokens[len(prompt) :])


def _coding(artifact: Any) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    """What makes tokens of texts for a model, and texts of its tokens."""
    characters, encoding = artifact.class_names, artifact.preprocessing.encoding
    if characters:
        return (
            lambda text: encode(text, characters, f"the prompt {text!r}").tolist(),
            lambda tokens: decode(tokens, characters),
        )
    if encoding is None:
        raise ValueError("the model does not say which texts its tokens are: use predict")
    if importlib.util.find_spec("tiktoken") is None:
        raise ValueError(f"the model's tokens are {encoding}'s, of tiktoken: pip install tiktoken")
    import tiktoken

    coder = tiktoken.get_encoding(encoding)
    return coder.encode_ordinary, coder.decode


def _continued(
    artifact: Any, tokens: list[int], count: int, temperature: float, random: np.random.Generator
) -> list[int]:
    """The tokens with so many more, each drawn from what the model says of those before it."""
    length = artifact.preprocessing.length
    for _ in range(count):
        seen = tokens[-length:]
        # What is behind the last one does not change what the model says there.
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(seen)] = seen
        logits = np.asarray(artifact.logits(padded)[0, len(seen) - 1], np.float64)
        if temperature:
            # The largest of the logits with Gumbel noise is a draw of their softmax.
            logits = logits / temperature + random.gumbel(size=len(logits))
        tokens = [*tokens, int(np.argmax(logits))]
    return tokens
