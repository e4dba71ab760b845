"""The console script `txndb`: one group whose commands are imported only when they are asked for."""

from __future__ import annotations

import importlib
from typing import Final

import click

_COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "start": ("txndb.server.cli", "start", "Start a node."),
    "demo": (
        "txndb.server.cli",
        "demo",
        "A three-node cluster on this machine that loses its leader under load.",
    ),
    "sql": ("txndb.shell.main", "command", "SQL shell."),
    "bench": ("txndb.server.cli", "bench", "Measure a workload against any PostgreSQL URL."),
    "sim": ("txndb.sim.cli", "sim", "Run the cluster in the simulator, from a seed."),
    "jepsen": (
        "txndb.testing.jepsen.cli",
        "command",
        "Real nodes under real faults, judged by the checkers.",
    ),
    "check": ("txndb.sim.check_cli", "check", "Judge a recorded history of operations."),
}


class _LazyGroup(click.Group):
    """Lists commands without importing them, so that `txndb sql` does not pay for the node's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, attribute, _ = found
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="txndb", prog_name="txndb")
def main() -> None:
    """txndb: a distributed transactional SQL database."""


if __name__ == "__main__":
    main()
