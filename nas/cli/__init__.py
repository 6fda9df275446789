"""The command `nas`: parses, calls the library, prints. One line for every error, exit code 2."""

import os
import sys

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch: spinning threads of two workers ruin each other

import click

from nas.core.errors import NasError
from nas.core.passwords import without_password


class Group(click.Group):
    """Turns errors of this package into one line each, Ctrl-C into exit code 130."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            message = error.format_message()
            if without_password(message) == message:
                raise
            raise click.UsageError(without_password(message), error.ctx) from None
        except NasError as error:
            for line in without_password(str(error)).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(0)


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="osa-nas", prog_name="nas")
def main() -> None:
    """Find OSA (VoVNet) backbones that are fast, frugal and accurate on your device."""


from nas.cli import (  # noqa: E402, F401
    bench,
    connections,
    db,
    export,
    look,
    measure,
    peers,
    remeasure,
    replicate,
    report,
    search,
    serve,
    train,
)
from nas.cli.bench import instrument, stopping  # noqa: E402, F401
from nas.cli.bench import search as bench_search  # noqa: E402, F401
from nas.cli.bench import store as bench_store  # noqa: E402, F401
