"""A trained model in one file: how it is stored, loaded and handed to other programs."""
