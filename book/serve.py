"""Serve the built website on this computer only, and open it in a browser.

python book/serve.py [--port 8000]      port 0: any free one
"""

import argparse
import errno
import functools
import http.server
import os
import sys
import webbrowser
from pathlib import Path

SITE = Path(__file__).resolve().parent / "_build" / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line per request on the screen; a page is never taken from an old copy."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Say nothing."""

    def end_headers(self):
        """Ask the browser to look for a newer page each time."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def server(site: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of one folder, reachable from this computer only; start it with ``serve_forever``.

    Raises:
        OSError: the port is taken, or is not allowed to this user.
    """
    handler = functools.partial(Handler, directory=str(site))
    http.server.ThreadingHTTPServer.allow_reuse_address = os.name == "posix"
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def has_display() -> bool:
    """Whether a browser window could be shown."""
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def serve(site: Path = SITE, *, port: int = 8000) -> int:
    """Serve until Ctrl+C; the exit status is 0 then, and 1 when serving could not start."""
    if not (site / "index.html").exists():
        print(
            f"There is no site in {site} yet. Build it with `make book` (or `python book/build.py`).", file=sys.stderr
        )
        return 1
    try:
        running = server(site, port)
    except OSError as error:
        reasons = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not allowed"}
        reason = reasons.get(error.errno, f"cannot be used ({error})")
        print(f"Port {port} {reason}: choose another one, as in `python book/serve.py --port 8001`.", file=sys.stderr)
        return 1
    address = f"http://127.0.0.1:{running.server_port}/"
    print(f"The book is at {address}  (Ctrl+C stops)", flush=True)
    if has_display():
        webbrowser.open(address)
    try:
        running.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        running.server_close()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0: any free one")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port must be between 0 and 65535, got {options.port}")
    return serve(port=options.port)


if __name__ == "__main__":
    sys.exit(main())
