"""The page: template, style and scripts put together so that nothing a dataset holds can become any of these."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from refine_batch.io.uri import redact_uri
from refine_batch.job.progress import duration
from refine_batch.results.labels import LABELS, figure, figure_name, percent, printable

# In the order in which they run; all are part of the package, none is fetched.
SCRIPTS = ("vendor/libraries.min.js", "page.js", "charts.js", "viewer.js")
# Characters of a name, and of a sentence or an address.
_NAME, _SENTENCE = 200, 1000


def render(values: dict[str, Any], data: dict[str, Any]) -> str:
    """The HTML of a report.

    Parameters
    ----------
    values
        What the template shows; every text is escaped there.
    data
        What the scripts read, as JSON.
    """
    scripts = [_asset(name).strip() + "\n" for name in SCRIPTS]
    shown = {
        "policy": policy(scripts),
        "scripts": [Markup(script) for script in scripts],
        "style": Markup(_asset("page.css")),
        "data": Markup(json_for_script(data)),
    }
    return _template().render(values | shown)


def policy(scripts: list[str]) -> str:
    """A content security policy under which these scripts run, no other does, and no network is reached."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def json_for_script(value: Any) -> str:
    """JSON that is the same to a JSON parser and holds nothing that ends a script or is markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shortened(text: object, longest: int = _NAME) -> str:
    """Text as `printable` gives it, no longer than a page has use for: an id or a URI may be of any length."""
    shown = printable(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def sentence(text: object) -> str:
    """`shortened` to what a sentence or an address may take."""
    return shortened(text, _SENTENCE)


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": duration,
        "figure_name": figure_name,
        "label": lambda name: LABELS[name][0],
        "percent": percent,
        "printable": printable,
        "sentence": sentence,
        "shortened": shortened,
        "without_credentials": redact_uri,
    }
    environment.globals["figure"] = figure
    return environment.from_string(_asset("page.html.jinja"))
