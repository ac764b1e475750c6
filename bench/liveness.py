"""How long a server's liveness takes, asked from a process of its own: `python -m bench.liveness PORT`, until its end.

Prints the slowest answer and the 99th percentile in seconds, and how many there were, when it is sent SIGTERM or the
server is gone.
"""

from __future__ import annotations

import signal
import sys
import time
from http.client import HTTPConnection, HTTPException

EVERY = 0.02  # seconds between two questions


def main() -> None:
    """Ask until told to stop."""
    port, took, going = int(sys.argv[1]), [0.0], True

    def stop(*_: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    while going:
        started = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/v2/health/live")
            connection.getresponse().read()
        except (OSError, HTTPException):
            break  # it stops, or has stopped
        finally:
            connection.close()
        took.append(time.perf_counter() - started)
        time.sleep(EVERY)
    took.sort()
    print(took[-1], took[int(0.99 * (len(took) - 1))], len(took) - 1)


if __name__ == "__main__":
    main()
