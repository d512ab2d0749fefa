"""`graft open`: the page of a classifier, in the browser."""

from __future__ import annotations

from pipeline.cli.connection import connect_airflow, pages_url, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_text


def open_page(name: NameArgument, as_json: JsonOption = False) -> None:
    """Open the page of a classifier in the browser; with --json print its address alone."""
    import webbrowser

    from pipeline.config import Settings, find_classifier
    from pipeline.errors import ConfigError

    try:
        find_classifier(name, Settings())
    except ConfigError as error:
        raise UsageError(str(error)) from error
    url = f"{pages_url(connect_airflow(require_stack()).url)}/classifiers/{name}"
    if as_json:
        print_json({"url": url})
        return
    print_text(url)
    webbrowser.open(url)
