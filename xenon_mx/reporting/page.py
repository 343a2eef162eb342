"""The page and the model card as text, rendered from templates.

Owns Jinja2, the templates, their filters and the limits of use; must not know where
the values come from or where the text is written.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from xenon_mx.errors import XenonError
from xenon_mx.reporting import hub_metadata
from xenon_mx.runtime import extras

try:
    import jinja2
    import markupsafe  # a dependency of Jinja2
except ModuleNotFoundError as error:
    raise XenonError(f"Jinja2 is not installed: {extras.install('report')}") from error

PAGE, MODEL_CARD = "report.html", "model_card.md"
_TEMPLATES = Path(__file__).parent / "templates"

LIMITS = (
    "Not for medical use: no net trained by xenon has been tested for any clinical "
    "purpose.",
    "A prediction is normal or abnormal for a whole study. It does not name the "
    "abnormality, and a class activation map shows what influenced the net, not a "
    "finding.",
    "The estimates hold for studies like those that they were measured on; other "
    "hospitals, devices, ages and body parts may give different results.",
    "If the data are MURA's: its labels come from radiologists' reports. On a second "
    "reading, most labels were correct, but about 40% of degenerative joint disease "
    "had been missed (Oakden-Rayner 2019).",
    "About half of MURA's abnormal studies show hardware, plaster or marks: a net may "
    "learn these instead of the disease.",
)


def render(template: str, context: dict[str, Any]) -> str:
    """Render a template; text from outside is escaped.

    Args:
        template: `PAGE` or `MODEL_CARD`.
        context: The values that the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = lambda data: _data_uri("image/svg+xml", data)
    environment.filters["jpeg"] = lambda data: _data_uri("image/jpeg", data)
    environment.filters["markdown"] = _escape_markdown
    environment.filters["yaml"] = hub_metadata.quote
    environment.filters["path"] = _breakable_path
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    return environment.get_template(template).render(context)


def _breakable_path(text: str) -> markupsafe.Markup:
    """Return an escaped path in which lines may break after every slash."""
    return markupsafe.Markup("/<wbr>").join(text.split("/"))


def _escape_markdown(text: str) -> str:
    """Return text without a meaning in Markdown, in its HTML, or in a table's row."""
    return re.sub(r"([\\`*\[\]<>&|])", r"\\\1", " ".join(text.split()))


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
