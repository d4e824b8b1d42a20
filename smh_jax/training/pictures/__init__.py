"""Pictures as data, drawn on paper (matplotlib) or into a page for browsers (plotly)."""
