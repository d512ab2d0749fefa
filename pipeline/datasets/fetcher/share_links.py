"""Links that lead to a page about a file, and the documented address of the file itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit

GOOGLE_FILE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id={}"
GOOGLE_SHEET = "https://docs.google.com/spreadsheets/d/{}/export?format=csv"


def find_direct_link(url: str) -> str:
    """Return the address of the file behind a link for sharing; any other address as it is.

    Known are Dropbox, Google Drive and Sheets, GitHub, GitLab and Hugging Face.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return url
    rewrite = _REWRITES.get(host)
    direct = rewrite(parts) if rewrite is not None and parts.scheme in ("http", "https") else None
    return direct or url


def _rewrite_dropbox(parts: SplitResult) -> str | None:
    if not re.match(r"/(s|scl|sh)/", parts.path):
        return None
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("dl", "raw")]
    return parts._replace(query=urlencode([*query, ("dl", "1")]), fragment="").geturl()


def _rewrite_google_drive(parts: SplitResult) -> str | None:
    match = re.match(r"/file/(?:u/\d+/)?d/([\w-]+)", parts.path)
    ids = [match[1]] if match else parse_qs(parts.query).get("id", [])
    is_file = match is not None or parts.path in ("/open", "/uc")
    return GOOGLE_FILE.format(ids[0]) if is_file and ids and re.fullmatch(r"[\w-]+", ids[0]) else None


def _rewrite_google_sheet(parts: SplitResult) -> str | None:
    match = re.match(r"/spreadsheets/d/([\w-]+)/(?:edit|view|htmlview)?$", parts.path)
    if match is None:
        return None
    sheet = parse_qs(parts.query).get("gid") or re.findall(r"gid=(\d+)", parts.fragment)
    return GOOGLE_SHEET.format(match[1]) + (f"&gid={sheet[0]}" if sheet and sheet[0].isdigit() else "")


def _rewrite_path(pattern: str, replacement: str) -> Callable[[SplitResult], str | None]:
    """Return what replaces the first match in a path, and says None without one."""

    def rewrite(parts: SplitResult) -> str | None:
        path, count = re.subn(pattern, replacement, parts.path, count=1)
        return parts._replace(path=path, fragment="").geturl() if count else None

    return rewrite


_REWRITES: dict[str, Callable[[SplitResult], str | None]] = {
    "dropbox.com": _rewrite_dropbox,
    "drive.google.com": _rewrite_google_drive,
    "docs.google.com": _rewrite_google_sheet,
    "github.com": _rewrite_path(r"^(/[^/]+/[^/]+)/blob/", r"\1/raw/"),
    "gitlab.com": _rewrite_path(r"/-/blob/", r"/-/raw/"),
    "huggingface.co": _rewrite_path(r"^((?:/(?:datasets|spaces))?/[^/]+/[^/]+)/blob/", r"\1/resolve/"),
}
