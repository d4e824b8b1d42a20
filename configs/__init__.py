"""One `get_config` per recipe, with string arguments for its variants."""
