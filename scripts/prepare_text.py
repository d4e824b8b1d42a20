"""Makes the tokens of a dataset of texts, of which `--config.data.name=tokens:FOLDER` trains.

    python -m scripts.prepare_text --name=c4/webtextlike --output=FOLDER

The dataset is one of tensorflow-datasets' catalogue, prepared already. Its tokens are those of
GPT-2, made by tiktoken (`pip install tiktoken`), which downloads them once; an end of text follows
each text. Of so many texts one, in their order, is for the test split.
"""

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from absl import flags, logging
from etils import epath

from smh_jax import cli

NAME = flags.DEFINE_string("name", None, "Of the dataset.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True, allow_override=True)
SPLIT = flags.DEFINE_string("split", "train", "Of the dataset.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Of tensorflow-datasets; None for its default.", allow_override=True
)
TEST_EVERY = flags.DEFINE_integer("test_every", 2000, "Texts for one of the test.", lower_bound=2)
# Texts that are encoded together.
_BATCH = 1024


def write(
    texts: Iterable[str],
    encode: Callable[[list[str]], list[list[int]]],
    *,
    end: int,
    num_tokens: int,
    test_every: int,
    folder: epath.Path,
    encoding: str | None = None,
) -> dict[str, int]:
    """Writes a folder of tokens; how many each split has.

    Args:
        texts: one by one.
        encode: the tokens of each of several texts.
        end: the token that follows each text.
        num_tokens: below which all of them are.
        test_every: of so many texts the last one is for the test split.
        folder: which must not be there yet.
        encoding: tiktoken's name of what encodes.

    Raises:
        ValueError: if the folder is there, or a split would have no text.
    """
    _check_new(folder)
    folder.mkdir(parents=True)
    dtype = np.uint16 if num_tokens <= 2**16 else np.uint32
    counts, number = {"train": 0, "test": 0}, 0
    files = {split: (folder / f"{split}.bin").open("wb") for split in counts}
    try:
        for batch in _batches(texts):
            for tokens in encode(batch):
                number += 1
                split = "train" if number % test_every else "test"
                files[split].write(np.asarray([*tokens, end], dtype).tobytes())
                counts[split] += len(tokens) + 1
    finally:
        for file in files.values():
            file.close()
    if not all(counts.values()):
        raise ValueError(f"{number} texts are too few for --test_every={test_every}")
    # Last: a folder that was not finished is none.
    content = {"num_tokens": num_tokens, "dtype": np.dtype(dtype).name, "encoding": encoding}
    (folder / "vocabulary.json").write_text(json.dumps(content))
    return counts


def _check_new(folder: epath.Path) -> None:
    if folder.exists():
        raise ValueError(f"--output={folder} exists: choose a new folder")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def main(_: list[str]) -> None:
    """Writes the folder."""
    folder = epath.Path(OUTPUT.value).expanduser()
    _check_new(folder)
    if importlib.util.find_spec("tiktoken") is None:
        raise ValueError("this needs tiktoken: pip install tiktoken")
    import tensorflow_datasets as tfds
    import tiktoken

    encoding = tiktoken.get_encoding("gpt2")
    dataset = tfds.load(NAME.value, split=SPLIT.value, data_dir=DATA_DIR.value, download=False)
    counts = write(
        (example["text"].decode() for example in dataset.as_numpy_iterator()),
        encoding.encode_ordinary_batch,
        end=encoding.eot_token,
        num_tokens=encoding.n_vocab,
        test_every=TEST_EVERY.value,
        folder=folder,
        encoding=encoding.name,
    )
    logging.info("%s: %s tokens", OUTPUT.value, counts)


if __name__ == "__main__":
    cli.run(main)
