"""What training did, from its run folders: one self-contained HTML page, PNG figures, tables.

In go run folders (``run.json`` and ``mixture.jsonl``, written during training), out come ``report.html``, which
loads nothing from anywhere, its figures as ``*.png``, its numbers as ``summary.json``, and a table on the
terminal::

    run folders ── run_folder ── methods ─┬─ comparison ── verdict ─┬─ terminal ── table on the terminal
                   (checked)    (grouped) │   (numbers)             ├─ summary ─── summary.json
                                          │                         │
                                          ├─ views, training_views ─┼─ drawing, reach_drawing ── figures ─┬─ *.png
                                          │        (arrays)         │       (one panel)                   │ SVG, numbers
                                          └─ moves ─────────────────┴─────────────── page ────────────────┴─ report.html
                                             (why each round moved)           (templates, page.css, page.js)

`fork_page` (with `fork_drawing`) is the page of a fork, from what `skillit fork` wrote; `templates` has what both pages
are put together from.

`command` is `skillit report` and :func:`write_report`: it calls the others in this order. `watch` has it do so again
whenever a round has ended.

- A *method* is all runs of one ``method`` in run.json (else of one ``name``): they are seeds of each other, their
  losses become a mean with a spread, and two methods are compared on the seeds both have.
- A *view* holds the arrays of a figure, kept few enough to be read; a *panel* is one pair of axes in it.
- A *picture* is a panel as SVG in the page; a *sheet* is all panels of a figure, for its PNG.
- The *baseline* is the method that the others are compared with, and stands first; unless it is named it is the
  stratified one, else the only one whose mixture is fixed. A *control* has its settings and another order of samples.
  A method *reaches* the baseline at the first evaluation at or below its final loss.

Only NumPy, SciPy, matplotlib, jinja2 and rich are needed, so a report can be made far from the machine that
trained.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillit_stream.report.command import write_report
    from skillit_stream.report.terminal import print_summary

__all__ = ['print_summary', 'write_report']


def __getattr__(name: str) -> Any:
    """Import what a report needs when it is first used."""
    homes = {'print_summary': 'terminal', 'write_report': 'command'}
    if name not in homes:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{homes[name]}'), name)
