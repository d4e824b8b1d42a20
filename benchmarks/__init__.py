"""Measurements of this project, side by side in one process."""
