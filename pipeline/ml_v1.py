"""What both sides of the `ml` v1 wire share: the states of a job, its final failures, the runtime version."""

from __future__ import annotations

from enum import StrEnum

# Begins the `errorMessage` of a job whose packages the engine refuses; another job would meet the same.
DAMAGED_FILES = "Damaged files"  # how the error message of a version that is not served any more begins
PACKAGES_REFUSED = "The packages cannot be installed."
RUNTIME_VERSION = "2.21"  # named after TensorFlow's minor version, as v1 does


class JobState(StrEnum):
    """States of a v1 job; the value is the spelling on the wire."""

    STATE_UNSPECIFIED = "STATE_UNSPECIFIED"
    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    @property
    def is_lost(self) -> bool:
        """Whether the job can no longer succeed, so that its work needs a new one."""
        return self in (JobState.FAILED, JobState.CANCELLING, JobState.CANCELLED)


# Of predictions that try a version: Graft's engine counts none of them as traffic, and logs none.
TEST_HEADER = "X-Graft-Test"
