"""Runs of many configurations and their tables."""
