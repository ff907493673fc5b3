"""Who may use Ray: the token of the clusters that are started here, and a warning about a cluster that asks for none.

Whoever reaches the ports of a cluster without a token can run any code on it. Ray would make a token by itself, in a
file that everybody on the machine can read; so it is created here first, readable by its owner alone.
"""

import errno
import os
import secrets
from collections.abc import MutableMapping
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"

OPEN_CLUSTER = (
    "This Ray cluster asks for no token: whoever reaches its ports can run code on it. "
    f"Start its nodes with {MODE}=token."
)

_OWNER_ONLY = 0o600
_OTHERS = 0o077


def require_token(environment: MutableMapping[str, str], home: Path | None) -> None:
    """Create a token for the cluster about to be started, where there is none.

    Ray 2.60 asks for it by itself in every cluster that ``ray.init`` starts, as long as no mode is set. Set here, the
    mode would come too late for a process that has imported Ray before. Who writes ``disabled`` has said so.

    Args:
        home: of the user; None where there is none.

    Raises:
        ValueError: RAY_AUTH_TOKEN_PATH names no file, or the token's file is another user's.
        OSError: the home cannot hold the token.
    """
    if environment.get(MODE, "token").casefold() != "token" or environment.get(TOKEN):
        return
    named = environment.get(TOKEN_PATH)
    if named:
        path = Path(named)
    elif home is not None:
        path = home / ".ray" / "auth_token"
    else:
        raise FileNotFoundError(errno.ENOENT, "this user has no home")
    if not path.exists():
        if named:
            raise ValueError(f"{TOKEN_PATH}={named}: there is no such file. Write a token to it, or unset it.")
        make(path)
    stat = path.stat()
    if stat.st_uid != os.getuid():
        raise ValueError(f"{path}: the Ray token belongs to another user. Name one of your own with {TOKEN_PATH}.")
    if stat.st_mode & _OTHERS:
        path.chmod(_OWNER_ONLY)


def is_open(environment: MutableMapping[str, str]) -> bool:
    """Whether this process has joined a cluster that asks for no token. Ray notes the mode in the environment."""
    return environment.get(MODE, "").casefold() != "token"


def make(path: Path) -> None:
    """Write a new token to a file that its owner alone can read; a file that is there stays.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Linked into place whole: of two that start at once, one makes the token and the other finds it.
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY), "w") as handle:
        handle.write(secrets.token_hex(32))
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
