"""Push an exported folder to the Hugging Face hub: the one place of sekd that writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from sekd import __version__
from sekd.errors import ConfigError, FatalError, in_one_line
from sekd.models import OFFLINE_BY_SEKD


def push_folder(folder: Path, repository: str) -> str:
    """Upload a folder to a repository of models, with the token of the user; return its address.

    A repository that is not there is created private; make it public on the hub when you mean to.

    Raises:
        ConfigError: if there is no token, or the name is none of a repository.
        FatalError: if the hub refuses, or does not answer; the exported folder stays.
    """
    hub = HfApi(library_name="sekd", library_version=__version__)
    try:
        with _online():
            created = hub.create_repo(repository, private=True, exist_ok=True)
            hub.upload_folder(
                repo_id=created.repo_id,
                folder_path=folder,
                commit_message=f"Upload a student made with sekd {__version__}",
            )
    except (LocalTokenNotFoundError, HFValidationError) as error:
        raise ConfigError(
            f"--push {repository}: {in_one_line(error, limit=300)}; log in with `hf auth login`, "
            "and give the repository as NAME/MODEL"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise FatalError(
            f"{folder} is written, and was not pushed to {repository}: "
            f"{in_one_line(error, limit=300)}"
        ) from error
    return str(created)


@contextmanager
def _online() -> Iterator[None]:
    """Let the hub's library use the network, from which sekd keeps it otherwise."""
    if constants.HF_HUB_OFFLINE and not OFFLINE_BY_SEKD:
        raise ConfigError("--push: HF_HUB_OFFLINE is set; unset it to upload")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
