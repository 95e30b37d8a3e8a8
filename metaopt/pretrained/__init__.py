"""Policies that come with metaopt; `README.md` here says what each was learned on, and what it is worth where."""

from __future__ import annotations

from pathlib import Path

from metaopt.errors import PolicyFileError

FOLDER = Path(__file__).parent
OF_RUN = "policy.safetensors"


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


def policy_file(policy: str | Path) -> Path:
    """The file that is meant.

    Args:
        policy: path of a policy file, of the run directory that holds one, or the name of a policy that comes with
            metaopt, which a file of that name goes before.
    """
    path = Path(policy).expanduser()
    if path.is_dir():
        return path / OF_RUN
    return shipped_path(str(policy)) if not path.exists() and str(policy) in shipped() else path
