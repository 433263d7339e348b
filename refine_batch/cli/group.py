"""The group of commands, and how their errors reach a person."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

import click

from refine_batch.errors import RefineBatchError, UsageError

# What `--help` shows, so that it need not import the commands.
COMMANDS = {
    "run": "Refine every instance of a manifest that the output does not hold yet.",
    "validate": "Check every row of a manifest without refining.",
    "manifest": "Build a manifest from a known dataset layout and a folder of coarse meshes.",
    "synth": "Write a synthetic dataset with ground truth and its manifest.",
    "status": "Show counts, figures before and after, and what failed and why.",
    "report": "Write a page to look at: figures, charts and meshes in one HTML file.",
    "export": "Write the refined meshes as files.",
    "compact": "Merge small result files and drop superseded rows.",
}


class Command(click.Command):
    """A command whose expected errors end in one sentence and the right exit status, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise Unusable(str(error)) from error
        except RefineBatchError as error:
            raise click.ClickException(str(error)) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under the headings that they name, those that name none last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", ""), []).append(record)
        others = sections.pop("", [])
        for title, records in [*sections.items(), ("Further options" if sections else "Options", others)]:
            with formatter.section(title):
                formatter.write_dl(records)


class Unusable(click.ClickException):
    """What the user gave cannot be used: nothing was started."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean run?`, or a full stop where no known name is like it."""
    similar = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean {similar[0]}?" if similar else "."


class LazyGroup(click.Group):
    """Imports `refine_batch.cli.<command>` on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"refine_batch.cli.{name}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"there is no option {error.option_name} before a command; a command's own stand after it, as in "
                "refine-batch run MANIFEST OUTPUT --steps 100",
                ctx,
            ) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            there_are = f"There are {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)} {there_are}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="refine-batch", prog_name="refine-batch")
def main() -> None:
    """Repair a whole dataset of single-view 3D reconstructions at test time, as a distributed Ray job.

    Exit status: 0 when all went well, 1 when rows failed or are missing, 2 when nothing could be started.
    """
