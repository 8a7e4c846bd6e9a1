"""`python -m localhost`: see `command_line`."""

from __future__ import annotations

import logging
import os
import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while the packages are still being imported: there is nothing to stop yet.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))

    from localhost.command_line import main

    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # A function that is still running in a thread would keep the interpreter from ending.
    os._exit(code)
