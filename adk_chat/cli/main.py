"""The command line: a thin layer over `Settings`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import dotenv
from pydantic import ValidationError

from adk_chat.cli.deployments import deployments
from adk_chat.cli.turns import turns
from adk_chat.settings import Settings, check_names, url
from adk_chat.terminal.chat import chat


def _option(name: str, **attributes: Any) -> Callable[[Any], Any]:
    """Returns an option for the setting of the same name. If it is not given, the setting's own value is used."""
    field = Settings.model_fields[name.replace("-", "_")]
    variable = f"ADK_CHAT_{name.replace('-', '_').upper()}"
    text = f"{field.description} [{variable}; default: {field.default}]"
    return click.option(f"--{name}", default=None, help=text, **attributes)


_allow_origins = click.option(
    "--allow-origins",
    "--allow_origins",
    multiple=True,
    help="An origin whose pages may use the gateway, or regex:PATTERN. Can be given several times. "
    "[ADK_CHAT_ALLOW_ORIGINS, comma-separated; default: none]",
)


_workers = _option("workers", type=int)
_fd = click.option("--fd", type=int, hidden=True)  # the shared socket, in a worker process
_OF_ONE = {"--workers": 1, "--register": 1, "--url": 1, "--force": 0}
"""Options for a single process, and how many arguments follow each."""


def _checked_url(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return value and url(value)
    except ValueError as error:
        raise click.ClickException(f"{parameter.opts[0]}: {error}.") from error


def _settings(options: dict[str, Any]) -> Settings:
    given = {name: value for name, value in options.items() if value not in (None, ())}
    # Not read by `Settings`: a program that uses the library may have a REDIS_URL for something else.
    if (shared := os.environ.get("REDIS_URL")) and "ADK_CHAT_REDIS_URL" not in os.environ:
        given["redis_url"] = shared
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise click.ClickException(
            f"--{name.replace('_', '-')}, or ADK_CHAT_{name.upper()}: {said}; it is {first['input']!r}."
        ) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adk-chat", message="%(package)s %(version)s")
def main() -> None:
    """Durable, multi-session chat for Google ADK agents, on Restate."""
    dotenv.load_dotenv(Path(".env"))
    try:
        check_names(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("agent", required=False)
@_option("ingress-port", type=int)
@_option("admin-port", type=int)
@_option("endpoint-port", type=int)
@_option("server", type=click.Choice(["hypercorn", "granian"]))
@_option("port", type=int)
@_allow_origins
@click.option("--no-ui", "ui", flag_value=False, default=None, help="Serve ADK's API without the dev UI.")
@click.option("--no-agui", "agui", flag_value=False, default=None, help="Do not serve AG-UI.")
@_option("artifact-service-uri")
@_option("memory-service-uri")
@_option("data-dir", type=click.Path(path_type=Path))
@_option("metrics-port", type=int)
@_option("replay-always", is_flag=True)
@click.option("--reload", is_flag=True, help="Restart the handlers when the agent's files change.")
@click.option("--without-server", is_flag=True, hidden=True)  # used by the process that --reload restarts
def dev(reload: bool, without_server: bool, **options: Any) -> None:
    """Run everything on this machine: restate-server, the handlers, and ADK's API and dev UI.

    AGENT is the directory of an ADK agent or of several, or package.module:attribute; by default a built-in assistant.
    """
    if reload:
        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        _run("reload", _settings(options), arguments=[*arguments, "--without-server"])
    else:
        _run("dev", _settings(options), without_server=without_server)


@main.command()
@click.argument("agent", required=False)
@_option("host")
@_option("port", type=int)
@_option("ingress-url")
@_option("admin-url")
@_option("artifact-service-uri")
@_option("memory-service-uri")
@_allow_origins
@click.option("--no-ui", "ui", flag_value=False, default=None, help="Serve ADK's API without the dev UI.")
@click.option("--no-agui", "agui", flag_value=False, default=None, help="Do not serve AG-UI.")
@_option("metrics-port", type=int)
@_workers
@_fd
def web(fd: int | None, **options: Any) -> None:
    """Serve ADK's API and dev UI for a service that runs elsewhere. Run as many copies as you like.

    AGENT is what the service runs: the directory of an ADK agent or of several, or package.module:attribute.
    """
    settings = _settings(options)
    if fd is None and settings.workers > 1:
        _run("web_workers", settings, arguments=_alone(sys.argv[1:]))
    else:
        _run("web", settings, fd=fd)


@main.command(name="serve")
@click.argument("agent", required=False)
@_option("artifact-service-uri")
@_option("memory-service-uri")
@_option("endpoint-host")
@_option("endpoint-port", type=int)
@_option("server", type=click.Choice(["hypercorn", "granian"]))
@click.option(
    "--register",
    "admin_url",
    metavar="ADMIN_URL",
    callback=_checked_url,
    help="Register with the Restate at this admin API.",
)
@click.option(
    "--url",
    metavar="URL",
    callback=_checked_url,
    help="The URL at which Restate reaches this endpoint; by default its address.",
)
@click.option("--force", is_flag=True, help="Replace what is registered for that URL.")
@_option("metrics-port", type=int)
@_workers
@_fd
def serve_command(admin_url: str | None, url: str | None, force: bool, fd: int | None, **options: Any) -> None:
    """Serve the handlers for any Restate. On SIGTERM, take no new work and let running steps finish.

    AGENT is the directory of an ADK agent or of several, or package.module:attribute; by default a built-in assistant.
    """
    settings = _settings(options)
    if fd is None and settings.workers > 1:
        given = {"--register": admin_url, "--url": url}
        first = [word for name, value in given.items() if value is not None for word in (name, value)]
        first += ["--force"] if force else []
        _run("serve_workers", settings, arguments=_alone(sys.argv[1:]), first=first, admin_url=admin_url)
    else:
        _run("serve", settings, admin_url=admin_url, url=url, force=force, fd=fd)


def _alone(arguments: list[str]) -> list[str]:
    """Returns the arguments of a worker process: without those for a single process."""
    left, arguments = [], list(arguments)
    while arguments:
        argument = arguments.pop(0)
        name, given, _ = argument.partition("=")
        if name in _OF_ONE:
            del arguments[: 0 if given else _OF_ONE[name]]
        else:
            left.append(argument)
    return left


main.add_command(chat)
main.add_command(turns)
main.add_command(deployments)


def _run(command: str, settings: Settings, **more: Any) -> None:
    # Imported late: ADK takes seconds to import, and `chat` and `--help` do without it.
    from adk_chat.cli import commands
    from adk_chat.process import logs

    logs.configure(settings.log_level, settings.log_format)
    commands.run(getattr(commands, command), settings, **more)


if __name__ == "__main__":
    main()
