"""The lab's SSH keys: ed25519, in OpenSSH's own format, made once."""

from __future__ import annotations

from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bbctl.stores.servers import private


def made(path: Path) -> paramiko.Ed25519Key:
    """The key in `path`, made (mode 0600) where there is none."""
    if not path.exists():
        raw = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        private(path, raw.decode("ascii"))
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def known_line(name: str, address: str, port: int, key: paramiko.PKey) -> str:
    """A line of known_hosts, by address and by name."""
    return f"[{address}]:{port},[{name}]:{port} {key.get_name()} {key.get_base64()}\n"
