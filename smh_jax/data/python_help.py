"""The language reference that Python's help() shows: about the sources, in the same characters."""

from pydoc_data.topics import topics

from smh_jax.data.characters import ASCII
from smh_jax.data.python_texts import PythonTexts

_AS_ASCII = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "..."})


class PythonHelp(PythonTexts):
    """The topics of the running Python's help(), their quotation marks and dashes in ASCII.

    The few with other characters are left out, and those that are a section of another one, which
    may be in the other split.
    """

    description = "Topics of Python's help()."
    homepage = "https://docs.python.org/3/reference/"

    def texts(self) -> dict[str, str]:
        known = frozenset(ASCII)
        texts = {name: text.translate(_AS_ASCII) for name, text in sorted(topics.items())}
        texts = {name: text for name, text in texts.items() if known.issuperset(text)}

        def is_within_another(name: str) -> bool:
            # But for the heading, which is underlined as deep as the section is.
            body = texts[name].strip().split("\n", 2)[-1].strip()
            return any(body in other for n, other in texts.items() if n != name)

        return {name: text for name, text in texts.items() if not is_within_another(name)}
