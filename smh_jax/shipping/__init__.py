"""From a trained run to what is used elsewhere: files, programs, converted models."""
