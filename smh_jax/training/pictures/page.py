"""One HTML file: text, tables that sort and plots that zoom; it loads nothing from anywhere."""

import html
import re
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from smh_jax.training.pictures.panels import Matrix, Panel, Picture
from smh_jax.training.pictures.report import Section, Table

# What plotly calls matplotlib's markers and color maps.
_SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down",
    "P": "cross", "*": "star", "X": "x",
}  # fmt: skip
_COLORS = {"viridis": "Viridis", "RdBu_r": "RdBu_r"}
# A larger matrix is drawn by every second, third, ... of its rows and columns.
_MAX_SIDE = 800
# The browser itself refuses whatever is not in the file.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }
h1, h2 { line-height: 1.2 }
figure { margin: 1.5rem 0 }
figcaption { color: #555; font-size: 13px }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
th, td, td code { white-space: nowrap }
.text { text-align: left }
th { cursor: pointer; user-select: none }
th[aria-sort=ascending]::after { content: " \\25b2" }
th[aria-sort=descending]::after { content: " \\25bc" }
code { background: #f3f3f3; padding: 0 .2em }
"""
# Numbers are compared as numbers, '7,498' and '88.1 ± 0.2' among them; what is empty comes last.
_SORT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const up = head.ariaSort !== "ascending", body = head.closest("table").tBodies[0];
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = up ? "ascending" : "descending";
  const text = (row) => row.cells[head.cellIndex].textContent.trim();
  const number = (row) => Number.parseFloat(text(row).replaceAll(",", ""));
  const rows = [...body.rows], filled = rows.filter(text);
  const numbers = filled.every((row) => !Number.isNaN(number(row)));
  const compare = (a, b) => numbers ? number(a) - number(b) : text(a).localeCompare(text(b));
  filled.sort((a, b) => up ? compare(a, b) : compare(b, a));
  body.append(...filled, ...rows.filter((row) => !text(row)));
});
"""


def encode(title: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    number = 0
    for section in sections:
        body += [f"<h2>{_inline(section.title)}</h2>"] if section.title else []
        body += [f"<p>{_inline(section.text)}</p>"] if section.text else []
        if section.items:
            body.append("<ul>" + "".join(f"<li>{_inline(i)}</li>" for i in section.items) + "</ul>")
        for picture in section.pictures:
            own = "" if picture.title == section.title else picture.title
            body.append(_figure(picture, own, f"picture{number}"))
            number += 1
        body += [_table(section.table)] if section.table else []
    # Plotly's own library comes once, however many pictures there are.
    library = f"<script>{get_plotlyjs()}</script>" if number else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{library}</head><body>\n"
        + "\n".join(body)
        + f"\n<script>{_SORT}</script></body></html>\n"
    )


def _inline(text: str) -> str:
    """Markdown's bold, code and links."""
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r'<a href="\2">\1</a>', text)


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        marks = (' class="text"' if index in table.text else "" for index in range(len(cells)))
        pairs = zip(marks, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{m}>{_inline(c)}</{tag}>" for m, c in pairs) + "</tr>"

    body = "".join(row("td", cells) for cells in table.rows)
    return f"<table><thead>{row('th', table.headings)}</thead><tbody>{body}</tbody></table>"


def _figure(picture: Picture, title: str, name: str) -> str:
    plot = _matrix(picture) if isinstance(picture, Matrix) else _panel(picture)
    plot.update_layout(
        template="simple_white", title={"text": html.escape(title), "font": {"size": 15}},
        margin={"l": 60, "r": 20, "t": 45, "b": 50}, hovermode="closest",
    )  # fmt: skip
    drawn = plot.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=name,
        config={
            "displaylogo": False, "responsive": True,
            # No button that sends a chart to a server.
            "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
        },
    )  # fmt: skip
    return f"<figure>{drawn}<figcaption>{html.escape(picture.caption)}</figcaption></figure>"


def _panel(panel: Panel) -> go.Figure:
    listed = bool(panel.categories)
    # Values lie along y, in a list along x.
    values, places = ("x", "y") if listed else ("y", "x")
    x_label, y_label = html.escape(panel.x_label), html.escape(panel.y_label)
    # Where points are side by side, their texts say what x is.
    x_line = "" if listed or panel.dodge else f"{x_label}: %{{customdata:,}}<br>"
    plot = go.Figure()
    for index, series in enumerate(panel.series):
        ys, errors = zip(*((p.y, p.error or 0.0) for p in series.points), strict=True)
        bars = {"type": "data", "array": errors, "visible": any(errors), "thickness": 1}
        modes = (("lines", series.line), ("markers", series.marker))
        plot.add_scatter(
            **{values: ys, places: panel.positions(index), f"error_{values}": bars},
            mode="+".join(mode for mode, look in modes if look),
            name=html.escape(series.name),
            showlegend=bool(series.name) and len(panel.series) > 1,
            line={"color": series.color, "dash": "dash" if series.line == "dashed" else "solid"},
            marker={
                "symbol": _SYMBOLS.get(series.marker, "circle") + "-open" * (not series.filled),
                "size": 8,
            },
            text=[html.escape(point.text or series.name) for point in series.points],
            customdata=[point.x for point in series.points],
            hovertemplate=f"%{{text}}<br>{x_line}{y_label}: %{{{values}:.4~g}}<extra></extra>",
        )
    for level in panel.levels:
        line = {"color": level.color, "dash": "dash", "width": 1}
        text = {"annotation_text": html.escape(level.name)} if level.name else {}
        (plot.add_vline if listed else plot.add_hline)(level.y, line=line, opacity=1, **text)
        if level.error:
            ends = (level.y - level.error, level.y + level.error)
            band = {"fillcolor": level.color, "opacity": 0.1, "line_width": 0}
            (plot.add_vrect if listed else plot.add_hrect)(*ends, **band)
    plot.update_layout(
        {
            f"{places}axis": {
                "title": {"text": x_label},
                "showgrid": not listed,
            },
            f"{values}axis": {
                "title": {"text": y_label},
                "showgrid": True,
                "rangemode": "tozero" if panel.from_zero else "normal",
            },
        }
    )
    if listed:
        ticks = {"tickvals": list(range(len(panel.categories))), "ticktext": panel.categories}
        plot.update_yaxes(autorange="reversed", automargin=True, **ticks)
        plot.update_layout(height=160 + 34 * len(panel.categories))
    else:
        positions = [position for position, _ in panel.ticks] or None
        texts = [text.replace("\n", "<br>") for _, text in panel.ticks]
        plot.update_xaxes(
            type="log" if panel.log_x else "linear", tickvals=positions, ticktext=texts
        )
    return plot


def _matrix(matrix: Matrix) -> go.Figure:
    rows, columns = matrix.values.shape
    every = -(-max(rows, columns) // _MAX_SIDE)
    low, high = matrix.limits
    plot = go.Figure()
    plot.add_heatmap(
        z=matrix.values[::every, ::every].astype(np.float32),
        x0=every / 2, y0=every / 2, dx=every, dy=every,
        zmin=low, zmax=high, colorscale=_COLORS[matrix.colors], showscale=bool(matrix.bar),
        hovertemplate="row %{y}, column %{x}: %{z:.3g}<extra></extra>",
    )  # fmt: skip
    for name, corners in matrix.regions:
        xs, ys = zip(*corners, corners[0], strict=True)
        plot.add_scatter(
            x=xs, y=ys, mode="lines", line={"color": "black", "width": 0.6}, showlegend=False,
            text=html.escape(name), hoverinfo="text" if name else "skip",
        )  # fmt: skip
    plot.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain")
    plot.update_xaxes(constrain="domain")
    plot.update_layout(height=620)
    return plot
