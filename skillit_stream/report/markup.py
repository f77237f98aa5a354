"""Small pieces of HTML: escaped text, tables, legends, the style sheet."""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { --paper: #fff; --ink: #1d2226; --soft: #59636c; --line: #d7dce0; --tint: #f3f6f8; --good: #e3f1ea;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e4e8eb; --soft: #9aa5ae; --line: #363d43; --tint: #1e2327;
    --good: #1d3a2c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h1, h2, td, th, li { overflow-wrap: break-word; }
li { overflow-wrap: anywhere; }
p, ul { max-width: 48rem; } ul { padding-left: 1.2rem; }
.soft, small { color: var(--soft); } .notes { background: var(--tint); padding: .6rem 1rem .6rem 2rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; } td small { white-space: normal; }
td.text { white-space: normal; min-width: 9rem; }
th:first-child, td:first-child, .text { text-align: left; }
th:first-child { min-width: 8rem; max-width: 22rem; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; min-width: 4rem; }
td.lowest { background: var(--good); font-weight: 600; } td small { display: block; font-weight: 400; }
tr.mean td, tr.mean th { border-bottom: 2px solid var(--line); font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
.panels figure { margin: 0; max-width: 34rem; }
svg { width: 100%; height: auto; display: block; }
.panels.one { display: block; } .panels.one figure { max-width: none; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .5rem 0; list-style: none;
  font-size: .9rem; max-width: none; }
.legend svg { display: inline-block; width: 1.8em; height: .8em; margin-right: .4em; }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --tint: #fff; --good: #eee; }
  body { max-width: none; font-size: 11pt; padding: 0; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .scroll { overflow: visible; } * { print-color-adjust: exact; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole document that loads nothing from anywhere."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        + '\n'.join(part for part in body if part)
        + '\n</body>\n</html>\n'
    )


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
        f'<th scope="col"{_class("text" if cell in texts else "")}>{escape(cell)}</th>' for cell in head
    )
    body = '\n'.join(rows)
    content = f'<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>'
    return f'<div class="scroll"><table>\n{content}</table></div>'


def row(name: str, cells: Sequence[str], kind: str = '') -> str:
    """A table row: its name as text, then cells as made by `cell`."""
    return f'<tr{_class(kind)}><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def cell(text: str, *, remark: str = '', kind: str = '') -> str:
    """A table cell of plain text, with a remark in small under it."""
    small = f'<small>{escape(remark)}</small>' if remark else ''
    return f'<td{_class(kind)}>{escape(text)}{small}</td>'


def legend(items: Sequence[tuple[str, str]]) -> str:
    """A legend of (swatch, name): swatches as made by `area_swatch` and `line_swatch`."""
    return (
        '<ul class="legend">'
        + ''.join(f'<li>{swatch}{escape(name)}</li>' for swatch, name in items)
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


def panels(svgs: Sequence[str]) -> str:
    """Figures side by side where there is room, else one below the other."""
    kind = 'panels one' if len(svgs) == 1 else 'panels'
    return (
        f'<div class="{kind}">' + '\n'.join(f'<figure>{svg}</figure>' for svg in svgs) + '</div>'
        if svgs
        else ''
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ''
