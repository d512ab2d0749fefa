"""Whether other people's code is restricted, and how."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.sandbox import landlock
from pipeline.engine.sandbox.landlock import END, MIN_ABI, NET_ABI, SCOPE_ABI, landlock_abi
from pipeline.engine.sandbox.policy import Policy
from pipeline.errors import ConfigError

OFF, REQUIRED = "off", "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The sandbox of one engine.

    Args:
        mode: `auto`, `required` or `off`.
        abi: The kernel's version of Landlock; 0 without.
    """

    mode: str
    abi: int

    @classmethod
    def detect(cls, mode: str) -> Sandbox:
        """Return what this machine offers.

        Raises:
            ConfigError: if a sandbox is required and this machine has none.
        """
        sandbox = cls(mode=mode, abi=landlock_abi())
        if mode == REQUIRED and not sandbox.is_active:
            raise ConfigError(
                f"GRAFT_ENGINE_SANDBOX is required, and this machine has {sandbox.landlock}. Use a Linux 6.2 "
                "or later with `landlock` among its security modules, or set GRAFT_ENGINE_SANDBOX to auto."
            )
        return sandbox

    @property
    def is_active(self) -> bool:
        """Whether other people's code is restricted."""
        return self.mode != OFF and self.abi >= MIN_ABI

    @property
    def landlock(self) -> str:
        """The Landlock of this machine, in words."""
        return f"Landlock ABI {self.abi}" if self.abi else "no Landlock"

    def describe(self) -> str:
        """Return in one sentence what holds other people's code."""
        if self.mode == OFF:
            return "off (GRAFT_ENGINE_SANDBOX): jobs and models may do what this user may"
        if not self.is_active:
            return f"none, {self.landlock} here: jobs and models may do what this user may"
        held = ["files"]
        held += ["the network of models"] if self.abi >= NET_ABI else []
        held += ["signals"] if self.abi >= SCOPE_ABI else []
        return f"{self.landlock} restricts {', '.join(held)} and ptrace"

    def wrap(self, policy: Policy, command: Sequence[str]) -> list[str]:
        """Return a command that runs under a policy; the same command where there is no sandbox."""
        return [*self.prefix(policy), *command]

    def prefix(self, policy: Policy) -> list[str]:
        """Return what a command is put behind to run under a policy; nothing where there is no sandbox."""
        if not self.is_active:
            return []
        launcher = str(Path(landlock.__file__).resolve())
        return [sys.executable, "-I", "-S", launcher, *policy.arguments(), END]
