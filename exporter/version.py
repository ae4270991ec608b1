"""The version of the program and the revision it was built from."""

import json
import os
from importlib.metadata import PackageNotFoundError, distribution

NAME = "vendor-alert-exporter"


def version() -> str:
    """Returns the version of the installed package; `unknown` when it runs from plain files."""
    try:
        return distribution(NAME).version
    except PackageNotFoundError:
        return "unknown"


def revision() -> str:
    """Returns the commit it was built from, by the image or by a package installed from git; else `unknown`."""
    if said := os.environ.get("VENDOR_ALERT_EXPORTER_REVISION"):
        return said
    try:
        origin = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")  # PEP 610
        return str(origin["vcs_info"]["commit_id"])
    except (PackageNotFoundError, ValueError, KeyError):
        return "unknown"
