"""The transport of Google's client in a notebook."""

from __future__ import annotations

import httplib2  # type: ignore[import-untyped, unused-ignore]


class UnkeptHttp(httplib2.Http):  # type: ignore[misc, unused-ignore]
    """Opens a connection for each request.

    The engine closes a connection that was idle for a while, as people's are who read between two cells, and
    `httplib2` does not try again when such a connection breaks while it sends a body.
    """

    def request(self, *arguments: object, **options: object) -> tuple[httplib2.Response, bytes]:
        """Send a request; see `httplib2.Http.request`."""
        self.close()
        response, content = super().request(*arguments, **options)
        return response, content
