"""`claude-pipeline metrics`: the ledger's figures for Prometheus, served or written; off unless called."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("metrics")
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=9464, show_default=True, help="On this machine only.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write FILE once instead (for node_exporter's textfile collector; - is stdout).",
)
def command(home: Path | None, port: int, to: Path | None) -> None:
    """Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics until Ctrl-C, or write them once.

    They are read off the ledger at each scrape: start and stop it as you like, nothing is lost. Needs
    `pip install 'claude-pipeline[metrics]'`.
    """
    from claude_pipeline.errors import UsageError
    from claude_pipeline.stage.desk import open_desk

    try:
        from prometheus_client import generate_latest, start_http_server

        from claude_pipeline.cli.prometheus import registry_over
    except ModuleNotFoundError:
        raise UsageError("metrics need a further library: pip install 'claude-pipeline[metrics]'") from None

    with open_desk(settings_of(home)) as desk:
        registry = registry_over(desk.ledger, desk.clock)
        if to is not None:
            _write(generate_latest(registry), to)
            return
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
        except OSError as error:
            raise UsageError(f"port {port} cannot be used ({error.strerror}); give another with --port") from None
        click.echo(f"metrics are at http://127.0.0.1:{port}/metrics   (stop: Ctrl-C)", err=True)
        try:
            thread.join()
        except KeyboardInterrupt:
            server.shutdown()


def _write(text: bytes, to: Path) -> None:
    from claude_pipeline.errors import UsageError
    from claude_pipeline.home import written

    if str(to) == "-":
        click.echo(text, nl=False)
        return
    try:
        with written(to, private=False) as temporary:  # another user's exporter reads it
            temporary.write_bytes(text)
    except OSError as error:
        raise UsageError(f"--to: {to} cannot be written ({error.strerror})") from None
