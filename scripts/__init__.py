"""Commands around the project."""
