"""Run benchmarks and write their sections of docs/performance.md: `python -m benchmarks [NAME...]`.

A benchmark is a module of this package with `measure() -> str`, which returns a Markdown section that begins
with a `## ` heading. The section of the same heading is replaced, or a new one is put at the end.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
HEADER = """# Performance

Made by `make bench`. Each table comes from one run, so its ratios hold although machines are shared and
noisy. The machine of these figures has two cores (x86-64, AVX2, no AVX-512).
"""


def main() -> None:
    """Run what is named, or everything."""
    available = (
        sorted(
            module.name
            for module in pkgutil.iter_modules([str(Path(__file__).parent)])
            if hasattr(importlib.import_module(f"benchmarks.{module.name}"), "measure")
        )
        if __package__
        else []
    )
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(available)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", default=None, help="of `models`: less, printed only")
    parser.add_argument("--cache", type=Path, help="of `models`: a folder from which a stopped run continues")
    arguments = parser.parse_args()
    options = {name: value for name in ("quick", "cache") if (value := getattr(arguments, name)) is not None}
    for name in arguments.names or available:
        if name not in available:
            parser.error(f"there is no benchmark {name!r}; known: {', '.join(available)}")
        measure = importlib.import_module(f"benchmarks.{name}").measure
        if unknown := options.keys() - inspect.signature(measure).parameters:
            parser.error(f"the benchmark {name!r} has no option --{min(unknown)}")
        section = measure(**options)
        print(section, flush=True)
        if arguments.quick:
            continue
        PAGE.write_text(with_section(PAGE.read_text() if PAGE.exists() else HEADER, section))


def with_section(page: str, section: str) -> str:
    """Return the page with one section replaced or added."""
    heading = section.splitlines()[0]
    head, *parts = page.split("\n## ")
    sections = {f"## {part.splitlines()[0]}": f"## {part.rstrip()}" for part in parts}
    sections[heading] = section.rstrip()
    return "\n\n".join([head.rstrip(), *sections.values()]) + "\n"


if __name__ == "__main__":
    main()
