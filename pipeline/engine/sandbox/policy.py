"""What a process may reach under Landlock."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.sandbox.landlock import NO_NETWORK, RIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a process and its descendants may reach. A path that does not exist is left out.

    Args:
        read: Files that are read and executed, and directories with all that is below them.
        write: Directories where everything may be made but devices.
        output: Directories where files and directories are made, changed and removed, but no link, socket or
            pipe: somebody else will open what is there.
        fill: Directories where files appear by a link or a rename from an `output` or `write` directory, and
            where none is ever replaced, changed or removed.
        update: Single files that may be written.
        shared: Directories where files are made, used and removed by name, and never listed.
        device: Device files.
        has_network: Whether TCP ports may be used; without it there is no network at all where the system
            lets a process have a network namespace of its own.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    has_network: bool = True

    def arguments(self) -> list[str]:
        """Return it as the launcher reads it: one argument for each path, whatever characters that has."""
        paths = [f"{kind}={path}" for kind in RIGHTS for path in getattr(self, kind)]
        return [*paths, *([] if self.has_network else [NO_NETWORK])]
