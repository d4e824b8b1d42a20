"""The paper's tables and figures, one module each: `experiment(scale)` gives its rows."""
