"""Where things are kept, and what the environment and the profile say: read once, at the edge.

An option is looked for on the command line, then in ``REMOTE_RUNTIME_<OPTION>``, then in the profile, a flat TOML file
(``config.toml`` in the configuration directory) whose keys are the option names with underscores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from remote_runtime.errors import UsageError

APP = "remote-runtime"
PREFIX = "REMOTE_RUNTIME_"

LibraryOption = Literal["iap_endpoint", "kernel_lease", "sandbox_server"]
"""What the library itself reads: these have a variable and a profile entry, but no option of the command line."""

LIBRARY_OPTIONS: frozenset[str] = frozenset(get_args(LibraryOption))


@dataclass(frozen=True)
class Settings:
    """Directories and defaults of one run.

    ``state_dir`` holds what is remembered about machines, ``config_dir`` the profile, ``cache_dir`` what can be
    fetched again; ``REMOTE_RUNTIME_HOME`` moves all three.  ``home`` is ``$HOME``, not the account's entry in the
    password file.  ``environ`` is the environment as it was when the settings were read.
    """

    state_dir: Path
    config_dir: Path
    cache_dir: Path
    home: Path
    profile: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment and the profile.

        Raises :class:`UsageError` if the profile is not readable TOML.
        """
        env = dict(os.environ if environ is None else environ)
        home = Path(env.get("HOME") or Path.home())
        state, config, cache = _directories(env)
        return cls(state, config, cache, home, _read_profile(config / "config.toml"), env)

    def option(self, name: LibraryOption, default: Any = None) -> Any:
        """The value of one of our own options from the environment, else the profile, else ``default``."""
        from_env = self.environ.get(PREFIX + name.upper())
        return from_env if from_env else self.profile.get(name, default)


def _directories(env: Mapping[str, str]) -> tuple[Path, Path, Path]:
    moved = env.get(PREFIX + "HOME")
    if moved:
        root = Path(moved).expanduser().absolute()
        return root / "state", root / "config", root / "cache"
    import platformdirs

    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    return dirs.user_state_path, dirs.user_config_path, dirs.user_cache_path


def _read_profile(path: Path) -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"Can't read the profile {path}: {error}",
            hint="Correct the file, or move it away.",
            code="profile_unreadable",
        ) from error
