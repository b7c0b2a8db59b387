"""What goes wrong between us and a hub, each in one line that says what to do."""

from __future__ import annotations

import errno

from warmstart.errors import HubError, shown

ON_THE_WIRE = ("httpx", "httpcore", "h11")


def on_the_wire(error: BaseException) -> bool:
    """Whether the connection failed, and not what came over it."""
    return type(error).__module__.startswith(ON_THE_WIRE) or isinstance(error, ConnectionError)


def broke_off(error: BaseException) -> bool:
    """Whether trying again may help."""
    status = _status(error)
    return (
        on_the_wire(error)
        or (status is not None and status >= 500)
        or (isinstance(error, OSError) and "Consistency check failed" in str(error))
    )


def explained(error: BaseException, repo_id: str, revision: str | None) -> HubError:
    """One line that says what happened and what to do."""
    from huggingface_hub import constants, errors

    login = "log in with `hf auth login` or set HF_TOKEN"
    status = _status(error)
    match error:
        case errors.HFValidationError():
            why = "is neither an existing folder nor the id of a model on the hub"
        case errors.GatedRepoError():
            why = f"is gated: accept its terms on its page, then {login}"
        case errors.RevisionNotFoundError():
            why = f"has no revision '{shown(revision)}'"
        case errors.RepositoryNotFoundError() if status == 404:
            why = f"is not on {constants.ENDPOINT}: check the name"
        case errors.RepositoryNotFoundError():
            why = f"does not exist or is private: check the name, or {login}"
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            why = "is not (wholly) in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        case errors.LocalEntryNotFoundError() if not isinstance(
            error.__cause__, errors.HfHubHTTPError
        ):
            why = f"is not (wholly) in the cache, and {constants.ENDPOINT} cannot be reached"
        case _ if status in (401, 403) or _status(error.__cause__) in (401, 403):
            why = f"may not be read: {login}"
        case _ if broke_off(error):
            why = "broke off several times on its way: try again, it goes on from there"
        case OSError() if error.errno == errno.ENOSPC:
            why = f"does not fit on the disk that holds {constants.HF_HUB_CACHE}"
        case _:
            why = f"could not be fetched: {shown(error, 160)}"
    return HubError(f"the model '{shown(repo_id)}' {why}")


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
