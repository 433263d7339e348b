"""Asks the Ray cluster at HOST:PORT whether it would have us: `python -P probe.py HOST:PORT found|named`.

A process of its own, since Ray takes twenty seconds and as many lines to say no, keeps what it once read of tokens, and
does not come back at all from a port where something else listens. One line on standard output: `yes`, or why not.
"""

from __future__ import annotations

import contextlib
import os
import sys


def main(address: str, how: str) -> None:
    # Whatever Ray says goes to standard error, the answer alone to standard output.
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "w") as out:
        out.write(_ask(address, how))
        out.flush()
        os._exit(0)


def _ask(address: str, how: str) -> str:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    if how == "found":
        enable_token()
    try:
        _require_token()
        GcsClient(address=address)
    except AuthenticationError:
        return "token"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "yes"


def _require_token() -> None:
    """Raise AuthenticationError where the mode is token and there is none; the client itself would abort."""
    with contextlib.suppress(ImportError):
        from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled

        ensure_token_if_auth_enabled(None, create_token_if_missing=False)


def enable_token() -> None:
    """Show the token there is, as Ray does to a cluster that it finds by itself and to no other."""
    # Rays before 2.60 know of no such thing.
    with contextlib.suppress(ImportError):
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


if __name__ == "__main__":
    main(*sys.argv[1:3])
