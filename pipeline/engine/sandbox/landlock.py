"""Restricts a process with Landlock, then runs a program in it. Linux only, unprivileged, for good.

`python -I -S landlock.py KIND=PATH... [no-network] -- COMMAND...`; the kinds are those of `policy.Policy`. It
is run as a file, because the packages of a job, which may have modules of the same names, must not be
importable yet. It imports next to nothing, because every program of a job or a model waits for it.
"""

import ctypes
import os
import stat
import sys

MIN_ABI = 3  # the first that keeps truncate(2) in; Linux 6.2
NET_ABI, DEVICE_ABI, SCOPE_ABI = 4, 5, 6  # TCP ports; ioctl on devices; signals and abstract sockets

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # a rule for a file may have no others

READ = EXECUTE | READ_FILE | READ_DIR
FILL = READ_FILE | READ_DIR | MAKE_REG | MAKE_DIR | REFER
UPDATE = READ_FILE | WRITE_FILE | TRUNCATE
OUTPUT = FILL | UPDATE | REMOVE_FILE | REMOVE_DIR
RIGHTS = {
    "read": READ,
    "write": READ | OUTPUT | MAKE_SYM | MAKE_SOCK | MAKE_FIFO,
    "output": OUTPUT,
    "fill": FILL,
    "update": UPDATE,
    "shared": UPDATE | MAKE_REG | REMOVE_FILE,
    "device": READ_FILE | WRITE_FILE | IOCTL_DEV,
}
NO_NETWORK, END = "no-network", "--"  # of the command line

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1
_BOUNDING_DROP, _NO_NEW_PRIVS, _AMBIENT, _AMBIENT_CLEAR = 24, 38, 47, 4
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scope", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("directory", ctypes.c_int32))


def landlock_abi() -> int:
    """Return the version of Landlock in this kernel; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    version: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    return max(version, 0)


def restrict(rules: list[tuple[str, str]], *, has_network: bool) -> None:
    """Restrict this thread, and whatever it starts, for ever.

    Args:
        rules: Kinds and paths; one that does not exist is left out.
        has_network: Whether TCP ports may be used.

    Raises:
        OSError: if the kernel refuses.
    """
    libc, abi = ctypes.CDLL(None, use_errno=True), landlock_abi()
    if abi < MIN_ABI:
        raise OSError(f"Landlock ABI {MIN_ABI} is needed; this kernel has {abi or 'none'}")
    if not has_network:
        _leave_network(libc)
    _drop_privileges(libc)
    ruleset = _create_ruleset(libc, abi, has_network=has_network)
    for kind, path in rules:
        _allow(libc, ruleset, path, RIGHTS[kind] if abi >= DEVICE_ABI else RIGHTS[kind] & ~IOCTL_DEV)
    _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _create_ruleset(libc: ctypes.CDLL, abi: int, *, has_network: bool) -> int:
    handled = _Ruleset(
        files=(IOCTL_DEV << 1) - 1 if abi >= DEVICE_ABI else IOCTL_DEV - 1,
        network=0 if has_network or abi < NET_ABI else 0b11,
        scope=0b11 if abi >= SCOPE_ABI else 0,
    )
    size = 8 if abi < NET_ABI else 16 if abi < SCOPE_ABI else 24
    return _check(libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(size), 0))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it does not exist, or is behind a directory of somebody else's
        return
    try:
        is_directory = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathBeneath(rights if is_directory else rights & OF_FILES, place)
        _check(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(place)


def _drop_privileges(libc: ctypes.CDLL) -> None:
    """Leave no capability to what is executed, not even to root, and let no file give one back."""
    libc.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    for capability in range(64):
        if libc.prctl(_BOUNDING_DROP, capability, 0, 0, 0) < 0:
            break  # past the last one, or a user who has none
    _check(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))


def _leave_network(libc: ctypes.CDLL) -> None:
    """Move to an empty network namespace, as root or with a user namespace, where the system allows one."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NETWORK) == 0 or libc.unshare(_NEW_USER | _NEW_NETWORK) < 0:
        return
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    try:
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        pass  # without the maps only the names of users are wrong


def main(arguments: list[str]) -> None:
    """Restrict this process and become the command; end if either fails."""
    end = arguments.index(END)
    options, command = arguments[:end], arguments[end + 1 :]
    rules = [(kind, path) for kind, equals, path in (option.partition("=") for option in options) if equals]
    try:
        restrict(rules, has_network=NO_NETWORK not in options)
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"The sandbox could not be set up: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
