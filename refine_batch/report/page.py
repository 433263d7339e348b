"""The page: template, style and scripts put together so that nothing a dataset holds can become any of these."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from refine_batch.io.uri import redact_uri
from refine_batch.results.durations import duration
from refine_batch.results.labels import LABELS, figure, figure_name, percent, printable
from refine_batch.results.versions import code_version

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
    shown = {"data": Markup(json_for_script(data))}
    return render_page("page.html.jinja", values | shown, SCRIPTS)


def render_page(template: str, values: dict[str, Any], scripts: Sequence[str] = ()) -> str:
    """The HTML of a template of `assets/` with the style and these scripts of `assets/`; every value is escaped."""
    sources = [_asset(name).strip() + "\n" for name in scripts]
    shown = {
        "policy": policy(sources),
        "scripts": [Markup(source) for source in sources],
        "style": Markup(_asset("page.css")),
        "version": code_version(),
        "made_at": datetime.now(UTC),
    }
    return _template(template).render(shown | values)


def policy(scripts: list[str]) -> str:
    """A content security policy under which these scripts run, no other does, and no network is reached."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    none = "'none'"
    return (
        f"default-src 'none'; script-src {hashes or none}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
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
def _template(name: str) -> jinja2.Template:
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
    return environment.from_string(_asset(name))
