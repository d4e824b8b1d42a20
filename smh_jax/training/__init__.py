"""From a configuration to a trained run: the loop, its step, and the folder it leaves."""
