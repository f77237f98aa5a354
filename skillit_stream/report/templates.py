"""The pages' templates (jinja2): `layout.html` is around every page, `macros.html` has its parts."""

import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from skillit_stream.report.comparison import deviation, number


def rendered(name: str, **values: Any) -> str:
    """A page as HTML that stands alone.

    Args:
        name: Of the template.
        **values: What it shows, `title` among them.
    """
    environment = Environment(
        loader=FunctionLoader(text_of),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        'breakable': _breakable,
        'deviation': deviation,
        'number': number,
        'with': format,
    }
    return environment.get_template(name).render(style=text_of('page.css'), **values)


def text_of(name: str) -> str:
    """A file beside this one."""
    return files('skillit_stream.report').joinpath(name).read_text(encoding='utf-8')


def _breakable(text: object) -> Markup:
    """Escaped text that may break within a path or a name of several words."""
    return Markup(re.sub('([_/])', r'\1<wbr>', str(escape(str(text)))))
