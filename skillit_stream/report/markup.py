"""Small pieces of HTML: escaped text, tables, legends, panels, and the page around them."""

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

SMALLEST = (
    0.7  # of its full width: a narrower screen scrolls a picture, whose names would be too small to read
)


def page(title: str, body: Sequence[str], *, figure_data: str) -> str:
    """A whole document that loads nothing from anywhere, and whose browser refuses to.

    Args:
        title: Plain text.
        body: HTML.
        figure_data: JSON for the script, as made by `HoverData`.
    """
    style, script = _text('page.css'), _text('page.js')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    content = '\n'.join(part for part in body if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{content}\n'
        f'<script type="application/json" id="figure-data">{figure_data}</script>\n'
        f'<script>{script}</script>\n</body>\n</html>\n'
    )


def _text(name: str) -> str:
    return files('skillit_stream.report').joinpath(name).read_text(encoding='utf-8')


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it; nothing at all where the parts are empty."""
    content = '\n'.join(part for part in parts if part)
    return f'<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>' if content else ''


def paragraph(text: str, kind: str = '') -> str:
    """One paragraph of plain text."""
    return f'<p{_class(kind)}>{escape(text)}</p>' if text else ''


def bullets(texts: Sequence[str], kind: str = '') -> str:
    """A list of plain sentences."""
    return (
        f'<ul{_class(kind)}>' + ''.join(f'<li>{escape(text)}</li>' for text in texts) + '</ul>'
        if texts
        else ''
    )


def table(head: Sequence[str], rows: Sequence[str], *, texts: Sequence[str] = ()) -> str:
    """A table that scrolls sideways where the screen is narrow; `texts` are columns of words."""
    cells = ''.join(
        f'<th scope="col"{_class("text" if cell in texts else "")}>{_name(cell)}</th>' for cell in head
    )
    body = '\n'.join(rows)
    content = f'<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>'
    return f'<div class="scroll"><table>\n{content}</table></div>'


def row(name: str, cells: Sequence[str], kind: str = '') -> str:
    """A table row: its name as text, then cells as made by `cell`."""
    return f'<tr{_class(kind)}><th scope="row">{_name(name)}</th>{"".join(cells)}</tr>'


def cell(text: str, *, remarks: Sequence[str] = (), kind: str = '') -> str:
    """A table cell of plain text, with remarks in small under it, a line each."""
    small = ''.join(f'<small>{escape(remark)}</small>' for remark in remarks if remark)
    return f'<td{_class(kind)}>{_name(text) if kind == "text" else escape(text)}{small}</td>'


def legend(items: Sequence[tuple[str, str]]) -> str:
    """A legend of (swatch, name): swatches as made by `area_swatch` and `line_swatch`."""
    return (
        '<ul class="legend">'
        + ''.join(f'<li>{swatch}<span>{escape(name)}</span></li>' for swatch, name in items)
        + '</ul>'
    )


def area_swatch(colour: str, *, hatched: bool) -> str:
    """A filled rectangle, striped like the area it stands for."""
    stripes = '<path d="M2 8L8 0M10 8L16 0" stroke="#fff" stroke-width="1.5"/>' if hatched else ''
    area = f'<rect width="18" height="8" fill="{colour}"/>'
    return f'<svg viewBox="0 0 18 8" aria-hidden="true">{area}{stripes}</svg>'


def line_swatch(colour: str, style: str) -> str:
    """A short line in the style of a method's curve."""
    dashes = {'-': '', '--': '5 2', '-.': '6 2 1 2', ':': '1.5 2'}[style]
    return (
        f'<svg viewBox="0 0 18 8" aria-hidden="true"><path d="M0 4H18" stroke="{colour}" stroke-width="2.4" '
        f'stroke-dasharray="{dashes}"/></svg>'
    )


def panels(pictures: Sequence[tuple[str, float]], numbers: Sequence[int] = ()) -> str:
    """Figures side by side where there is room, else one below the other; those without numbers may scroll.

    Args:
        pictures: SVGs, and how wide each may be in rem.
        numbers: For each, its place in the data that hovering shows; none: hovering shows nothing.
    """
    figures = [
        f'<figure><div class="plot" data-panel="{number}" style="max-width: {width:.1f}rem">{svg}</div></figure>'
        for (svg, width), number in zip(pictures, numbers, strict=False)
    ] or [
        f'<figure class="scroll"><div class="plot" style="min-width: {SMALLEST * width:.1f}rem; '
        f'max-width: {width:.1f}rem">{svg}</div></figure>'
        for svg, width in pictures
    ]
    kind = 'panels one' if len(pictures) == 1 else 'panels'
    return f'<div class="{kind}">' + '\n'.join(figures) + '</div>' if figures else ''


def _name(text: str) -> str:
    """Escaped text that may break within a path or a name of several words."""
    return re.sub('([_/])', r'\1<wbr>', escape(text))


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ''
