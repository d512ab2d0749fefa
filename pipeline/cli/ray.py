"""`graft ray`: a Ray cluster of this machine, to try jobs on Ray."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.help import Command, Group
from pipeline.cli.output import JsonOption, print_json, print_note, print_text

if TYPE_CHECKING:
    from pipeline.stack.ray_cluster import RayCluster

ray = typer.Typer(
    name="ray",
    cls=Group,
    help="Run a small Ray cluster on this machine, for a demonstration.",
    no_args_is_help=True,
)
NodesOption = Annotated[
    int, typer.Option(min=1, max=8, metavar="N", help="Hosts that run jobs; the head runs none.")
]
CpusOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Processors that each of them offers; 0: all of this machine.")
]
PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Use this port instead of a free one.")
]
RayOption = Annotated[
    Path | None, typer.Option("--ray", metavar="PATH", help="Ray's program; that of `make ray` by default.")
]


def _cluster(program: Path | None = None) -> RayCluster:
    from pipeline.config import Settings
    from pipeline.stack.ray_cluster import RayCluster
    from pipeline.storage import Storage

    settings = Settings()
    directories = Storage.from_environment().directories.values()
    return RayCluster(settings.home, directories=list(directories), ray=program)


def _default_program() -> Path:
    import pipeline

    made = Path(pipeline.__file__).resolve().parents[1] / "build" / "ray" / "bin" / "ray"
    elsewhere = shutil.which("ray")
    return Path(elsewhere) if elsewhere and not made.exists() else made


@ray.command(cls=Command)
def up(
    nodes: NodesOption = 1,
    cpus: CpusOption = 0,
    port: PortOption = None,
    program: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a Ray head and its nodes, or what of them is not running, in namespaces of this machine."""
    cluster = _cluster(program or _default_program())
    print_note("Ray's hosts start; that takes a minute.")
    status = cluster.up(nodes=nodes, cpus=cpus, port=port)
    if as_json:
        print_json({**status.to_dict(), "environ": dict(status.environ)})
        return
    print_text(f"Ray runs: {', '.join(status.hosts)}. Its dashboard: {status.address}")
    print_text("To run jobs there, set this and start the stack again with `graft up`:")
    for name, value in status.environ.items():
        print_text(f"  export {name}={shlex.quote(value)}")


@ray.command(cls=Command)
def down(as_json: JsonOption = False) -> None:
    """End the cluster and the jobs on it; the engine runs them again where it finds a cluster."""
    ended = _cluster().down()
    if as_json:
        print_json({"ended": ended})
    else:
        print_text(f"{ended} hosts ended." if ended else "Nothing was running.")
