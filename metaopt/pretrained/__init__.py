"""Policies that come with metaopt; `README.md` here says what each was learned on, and what it is worth where."""

from __future__ import annotations

from pathlib import Path

from metaopt.errors import PolicyFileError

FOLDER = Path(__file__).parent


def shipped() -> list[str]:
    """Names of the policies that come with metaopt."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def shipped_path(name: str) -> Path:
    """The file of a policy that comes with metaopt.

    Raises:
        PolicyFileError: there is none of this name.
    """
    if name not in shipped():
        raise PolicyFileError(f"no policy called '{name}' comes with metaopt; there are {', '.join(shipped())}")
    return FOLDER / f"{name}.safetensors"
