"""Reads files that an operator names: whatever stands under the name, reading it ends soon and holds little."""

import errno
import os
import select
import stat
import time
from pathlib import Path

# Size of the largest configuration, secret or certificate that is read, in bytes; all of them are far smaller.
LARGEST = 4 * 1024 * 1024
# Time a pipe has to deliver what it holds, in seconds.
PATIENCE = 2.0


def read(path: Path, *, largest: int = LARGEST, patience: float = PATIENCE) -> bytes:
    """Returns the content of a file, or of a pipe; raises OSError for whatever cannot be read to an early end."""
    descriptor = _opened(path)
    try:
        content = bytearray()
        deadline = time.monotonic() + patience
        while chunk := _chunk(descriptor, deadline):
            content += chunk
            if len(content) > largest:
                raise OSError(errno.EFBIG, f"it is larger than {largest // 1024} KiB")
        return bytes(content)
    finally:
        os.close(descriptor)


def check(path: Path) -> None:
    """Raises OSError if a library could not read this file to an early end, so that it must not be handed one."""
    descriptor = _opened(path)
    try:
        about = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if about.st_size > LARGEST:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST // 1024} KiB")


def about(path: Path) -> os.stat_result:
    """Returns what the system knows of a file; links are followed, since Kubernetes swaps them. Raises OSError."""
    try:
        return path.stat()
    except ValueError:  # a name with a NUL in it, or one that the locale cannot spell
        raise _nothing_there() from None


def named(text: str) -> str:
    """Returns the name of a file as the system has it, whatever the locale can spell, of a name written in a file."""
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeError:
        return text


def _nothing_there() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _opened(path: Path) -> int:
    try:
        # Not blocking: else a pipe that nobody writes to would be waited for for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:  # a name with a NUL in it, or one that the locale cannot spell
        raise _nothing_there() from None
    except OSError as error:
        raise (_nothing_there() if error.errno == errno.ENAMETOOLONG else error) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    return descriptor


def _chunk(descriptor: int, deadline: float) -> bytes:
    ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe")
    try:
        return os.read(descriptor, 1024 * 1024)
    except BlockingIOError:
        return b""
