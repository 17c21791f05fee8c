"""A diagnosis as one file to hand on: findings, facts, ends of logs, process states; passwords and tokens masked."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbctl.errors import Failed
from bbctl.redact import mask


def write(path: Path, files: Mapping[str, Any]) -> None:
    """A tar (gzip with .gz or .tgz) of `files`: name → text, or anything that JSON can say. Failed where it cannot be written.

    It appears whole or not at all, readable by its owner only.
    """
    root = re.sub(r"\.(tar|tgz|tar\.gz|gz)$", "", path.name) or "bundle"
    new = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with (
            os.fdopen(handle, "wb") as out,
            tarfile.open(fileobj=out, mode="w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar,
        ):
            for name, content in files.items():
                text = (
                    content
                    if isinstance(content, str)
                    else json.dumps(content, indent=2, ensure_ascii=False, default=str)
                )
                data = mask(text).encode("utf-8", "replace")
                info = tarfile.TarInfo(f"{root}/{name}")
                info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
                tar.addfile(info, io.BytesIO(data))
        new.replace(path)
    except OSError as error:
        raise Failed(
            f"{path} could not be written: {error.strerror}", code="bundle", next="bbctl diagnose --bundle /tmp/b.tgz"
        ) from None
