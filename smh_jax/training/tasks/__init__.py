"""What can be learned, by name: a task knows its examples, its loss and its predictions.

Who trains, ships or compiles a model asks the task; models and methods know nothing of it.
"""

from smh_jax.training.tasks.base import Dataset, Preprocessing, Split, Task, names, of_name
from smh_jax.training.tasks.image_classification import ImageClassification
from smh_jax.training.tasks.next_token import NextToken

# Of what does not name one: runs and files from before there were several.
DEFAULT = of_name(ImageClassification.name)

__all__ = ["DEFAULT", "Dataset", "ImageClassification", "NextToken", "Preprocessing", "Split"]
__all__ += ["Task", "names", "of_name"]
