"""Puts the page together, and says by their hashes which script and which style it may run."""

import base64
import functools
import hashlib
import importlib.resources
from typing import NamedTuple


class Page(NamedTuple):
    """A document that needs nothing else, and the policy that lets it do no more than it does."""

    html: str
    policy: str


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


@functools.cache
def page(name: str) -> Page:
    """Return ``index.html`` or ``login.html`` with the style and the script inside."""
    style, script = _read("style.css"), _read("script.js")
    html = _read(name).replace("{{style}}", style).replace("{{script}}", script)
    scripts = _hash(script) if script in html else "'none'"
    return Page(html, policy(f"script-src {scripts}; style-src {_hash(style)}; connect-src 'self'; form-action 'self'"))


def policy(allowed: str = "") -> str:
    """Return a content security policy that forbids all but ``allowed``."""
    rest = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    return f"{rest}; {allowed}" if allowed else f"{rest}; form-action 'none'"
