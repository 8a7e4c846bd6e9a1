"""What `localhost` raises on purpose.

    SentimentError
    └── LocalhostError       the machine is not ready, or the app is refused  (.problems)
        ├── AppRefused       the platform would not serve this function_app.py
        ├── PortInUse        another program listens there                    (.port)
        └── FunctionFailed   a function of the app raised                     (.function)

Each message is for a person at a terminal: one line per problem, saying what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from sentiment.errors import SentimentError


class LocalhostError(SentimentError):
    """The machine is not ready; `problems` holds one line each, saying what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class AppRefused(LocalhostError):
    """The platform would not serve this app; one problem per line names function and fix."""


class FunctionFailed(LocalhostError):
    """A function of the app raised; the log has the traceback, `__cause__` the error."""

    def __init__(self, function: str, error: BaseException) -> None:
        super().__init__(f"{function} failed: {type(error).__name__}: {error}")
        self.function = function


class PortInUse(LocalhostError):
    """Another program listens on `port`."""

    def __init__(self, port: int, advice: str) -> None:
        super().__init__(f"port {port} is in use by another program: {advice}")
        self.port = port
