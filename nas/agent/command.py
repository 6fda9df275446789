"""The agent's command line."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Sequence

from . import PROTOCOL
from .errors import RefusedError
from .sensors import SYS
from .server import Agent, TcpServer, UnixServer, serve
from .sessions import LEASE_S

PORT = 8731
"""Default port on the loopback interface."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOKEN_VARIABLE = "NAS_AGENT_TOKEN"  # noqa: S105 - the name of a variable
MIN_TOKEN_LENGTH = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "device":
            print(json.dumps(_agent(options, None).device(), indent=2))  # noqa: T201
            return 0
        return _serve(options)
    except (RefusedError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent.pyz", description="Measure networks on this device for osa-nas elsewhere."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="wait for a driver on the loopback interface")
    device = commands.add_parser("device", help="print what this device is and can measure")
    for each in (server, device):
        each.add_argument("--folder", type=Path, default=_default_folder(), help="for networks")
        each.add_argument("--max-mb", type=int, default=1024, help="most megabytes of networks")
        each.add_argument("--rails", default="", help="power rails to add up, with commas between")
        each.add_argument("--sys", type=Path, default=SYS, help=argparse.SUPPRESS)
    server.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0 for any")
    server.add_argument("--socket", type=Path, help="a Unix socket in place of the port")
    server.add_argument(
        "--token-file",
        type=Path,
        help=f"file with the driver's token, made if missing; {TOKEN_VARIABLE} instead of it",
    )
    server.add_argument(
        "--lease",
        type=float,
        default=LEASE_S,
        help=f"seconds without a driver's sign of life that end its session, default {LEASE_S:.0f}",
    )
    return parser


def _serve(options: argparse.Namespace) -> int:
    token = None if options.socket else _token(options.token_file)
    agent = _agent(options, token)
    server: Any
    if options.socket:
        server, place = UnixServer(str(options.socket), agent), f"unix:{options.socket}"
    else:
        server = TcpServer((LOOPBACK[0], options.port), agent)
        place = f"http://{LOOPBACK[0]}:{server.server_address[1]}"
    signal.signal(signal.SIGTERM, _interrupt)
    _log(f"agent, protocol {PROTOCOL}, listens on {place}")
    serve(server)
    return 0


def _agent(options: argparse.Namespace, token: str | None) -> Agent:
    return Agent(
        options.folder,
        token=token,
        max_bytes=options.max_mb * 10**6,
        rails=tuple(filter(None, options.rails.split(","))),
        sys_folder=options.sys,
        lease_s=getattr(options, "lease", LEASE_S),
        log=_log,
    )


def _token(file: Path | None) -> str:
    """Return the token of the file or the environment. A missing file is made with a new token.

    Raises `ValueError` without a token, and for one that is too short.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
    else:
        if not file.exists():
            descriptor = os.open(str(file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as made:
                made.write(secrets.token_urlsafe(32) + "\n")
        token = file.read_text(encoding="utf-8").strip()
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii():
        raise ValueError(
            f"a port needs a token of at least {MIN_TOKEN_LENGTH} characters: give --token-file, "
            f"or {TOKEN_VARIABLE}; a Unix socket (--socket) needs none"
        )
    return token


def _default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "osa-nas-agent"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
