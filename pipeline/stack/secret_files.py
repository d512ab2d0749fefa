"""The secrets of a backup: one file of mode 0600, or one that a passphrase encrypts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BackupError
from pipeline.stack.snapshot import BackupFolder
from pipeline.stack.state import write_private

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PASSPHRASE = "GRAFT_BACKUP_PASSPHRASE"
SECRET_FILES = ("secrets.json", "engine/tokens.json", "engine/reader_tokens.json", "airflow/passwords.json")


def check_target(folder: BackupFolder) -> None:
    """Check that secrets can be kept in a folder.

    Raises:
        BackupError: if others could read them there.
    """
    if folder.is_remote and not os.environ.get(PASSPHRASE):
        raise BackupError(
            f"Secrets in {folder.uri} must be encrypted: set {PASSPHRASE} to a passphrase, which the restore "
            "needs again."
        )


def write_secrets(folder: BackupFolder, name: str, home: Path) -> bool:
    """Store the secret files of a home; return True if they are encrypted."""
    files = {each: (home / each).read_text() for each in SECRET_FILES if (home / each).exists()}
    passphrase = os.environ.get(PASSPHRASE, "")
    if passphrase:
        salt = os.urandom(16)
        data = salt + _cipher(passphrase, salt).encrypt(json.dumps(files).encode())
        folder.storage.write_bytes(folder.secrets(name), data)
        return True
    path = folder.storage.scratch_path(folder.secrets(name)) if folder.uri.startswith("gs://") else None
    write_private(path or Path(folder.secrets(name)).expanduser().absolute(), files)
    return False


def read_secrets(folder: BackupFolder, name: str, *, is_encrypted: bool) -> Mapping[str, str]:
    """Return the text of each secret file, by its path below the home.

    Raises:
        BackupError: if the passphrase is missing or wrong, or the file is damaged.
    """
    data = folder.storage.read_bytes(folder.secrets(name))
    try:
        files = json.loads(_decrypt(data) if is_encrypted else data)
    except ValueError as error:
        raise BackupError(f"{folder.secrets(name)} is damaged: {error}.") from error
    return {each: str(files[each]) for each in SECRET_FILES if each in files}


def _decrypt(data: bytes) -> bytes:
    from cryptography.fernet import InvalidToken

    passphrase = os.environ.get(PASSPHRASE, "")
    if not passphrase:
        raise BackupError(f"The secrets of this backup are encrypted: set {PASSPHRASE}.")
    try:
        plain: bytes = _cipher(passphrase, data[:16]).decrypt(data[16:])
    except InvalidToken as error:
        raise BackupError(f"{PASSPHRASE} is not the passphrase of this backup.") from error
    return plain


def _cipher(passphrase: str, salt: bytes) -> Fernet:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    key = Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))
