"""A view that stays on the terminal and is drawn again every few seconds until Ctrl-C."""

import io
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nas.cli.tables import draws_over
from nas.core.errors import NasError


def watch(console: Console, draw: Callable[[Console], None]) -> None:
    """Show what `draw` prints, again every two seconds.

    Raises `NasError` if the output is no terminal, or a dumb one.
    """
    if not draws_over(console):
        raise NasError(
            "--watch needs a terminal that can be drawn over; without it the same is printed once"
        )
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            # a console of its own, since the live one draws itself again at every print
            sheet = Console(
                file=io.StringIO(),
                width=console.width,
                highlight=False,
                markup=False,
                force_terminal=True,
            )
            with sheet.capture() as drawn:
                draw(sheet)
            live.update(Text.from_ansi(drawn.get()), refresh=True)
            time.sleep(2.0)
