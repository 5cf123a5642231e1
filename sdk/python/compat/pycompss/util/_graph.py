"""Tables and graphs that show themselves in notebooks (HTML, SVG) and on terminals (text)."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
from typing import Any

_COLOURS = {"done": "#8fbc8f", "running": "#87ceeb", "ready": "#f0e68c", "waiting": "#dddddd", "failed": "#f08080"}


class Table:
    """Rows under a header."""

    def __init__(self, header: list[str], rows: list[list[Any]]) -> None:
        self.header = header
        self.rows = rows

    def __str__(self) -> str:
        lines = [self.header, *[[str(cell) for cell in row] for row in self.rows]]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><tr>{head}</tr>{body}</table>"

    __repr__ = __str__


class TaskGraph:
    """Tasks and the tasks they wait for."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __str__(self) -> str:
        lines = ["digraph tasks {", "  node [style=filled];"]
        known = {row.get("task") for row in self.rows}
        for row in self.rows:
            label = f"{row.get('task')} {str(row.get('function', '')).rpartition('.')[2]}".replace('"', "'")
            colour = _COLOURS.get(row.get("state", ""), "#ffffff")
            lines.append(f'  t{row.get("task")} [label="{label}", fillcolor="{colour}"];')
            lines += [f"  t{source} -> t{row.get('task')};" for source in row.get("after", []) if source in known]
        return "\n".join([*lines, "}"])

    def _repr_svg_(self) -> str | None:
        if shutil.which("dot") is None:
            return None
        done = subprocess.run(["dot", "-Tsvg"], input=str(self), capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    __repr__ = __str__


def display(view: Any, clear: bool = False) -> None:
    """Shows a view: in the notebook's cell, else on standard output. With `clear` in place of what was there."""
    if "IPython" in sys.modules:
        from IPython import get_ipython  # type: ignore[import-not-found]

        shell = get_ipython()
        if shell is not None and hasattr(shell, "kernel"):
            from IPython.display import clear_output  # type: ignore[import-not-found]
            from IPython.display import display as show

            if clear:
                clear_output(wait=True)
            show(view)
            return
    print(view)
