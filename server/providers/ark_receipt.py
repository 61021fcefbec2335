"""What a call to Ark bought, as text: kept with the call before anything is fetched, and read on resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from server.domain.errors import Reason, TaskError
from server.providers.ark_errors import image_error, in_doubt
from server.providers.contract import ImageFailed, ProviderError, Sent


class Bought(Struct, frozen=True, kw_only=True):
    """An answered call: links of what was made, errors of what was not, by index in the sequence."""

    links: Mapping[int, str]
    failures: Sequence[ImageFailed]
    complete: bool = True
    """Whether that is all; else the answer is still coming."""

    @property
    def named(self) -> frozenset[int]:
        """The images of which it tells what became of them."""
        return frozenset((*self.links, *(failed.index for failed in self.failures)))


def bought_from(data: Sequence[Any], indexes: Sequence[int]) -> Bought | None:
    """Read the `data` of an answer: its entries stand for the wanted images in order. None: nothing in it.

    There may be fewer entries than were wanted, for the model decides on the length of a sequence.
    """
    bought = Bought(links={}, failures=())
    for index, entry in zip(indexes, data, strict=False):
        bought = with_entry(bought, index, entry if isinstance(entry, dict) else {})
    told = any(isinstance(entry, dict) and ("url" in entry or "error" in entry) for entry in data)
    return bought if told and bought.named else None


def with_entry(bought: Bought, index: int, entry: Mapping[str, Any]) -> Bought:
    """The same and what the vendor's entry, or event, says of this image."""
    error, url = entry.get("error"), entry.get("url")
    if isinstance(url, str) and url:
        return replace(bought, links={**bought.links, index: url})
    failed = image_error(str(error.get("code") or "")) if isinstance(error, dict) else _NO_PICTURE
    return replace(bought, failures=(*bought.failures, ImageFailed(index=index, error=failed)))


def charges_for_more(answer: Mapping[str, Any], bought: Bought) -> bool:
    """Whether the answer's `usage` counts more pictures as charged than it names."""
    usage = answer.get("usage")
    charged = usage.get("generated_images") if isinstance(usage, dict) else None
    return isinstance(charged, int) and charged > len(bought.links)


def refused(bought: Bought) -> ProviderError | None:
    """What a whole answer without any picture is: a refusal where Ark gives its errors, else in doubt.

    None: there are pictures, or more is to come.
    """
    if bought.links or not bought.complete:
        return None
    errors = [failed.error for failed in bought.failures]
    if _NO_PICTURE in errors:
        return in_doubt("Ark's answer says of pictures that they were made, and not where they are.")
    why = next(
        (error for error in errors if error.retryable), errors[0]
    )  # the others fail again, for nothing
    return ProviderError(why.message, sent=Sent.REJECTED, reason=why.reason, retryable=why.retryable)


def written(bought: Bought) -> str:
    """The receipt."""
    return json.dumps(
        {
            "links": {str(index): link for index, link in bought.links.items()},
            "failures": [
                {
                    "index": failed.index,
                    "reason": failed.error.reason.value,
                    "message": failed.error.message,
                    "retryable": failed.error.retryable,
                }
                for failed in bought.failures
            ],
        },
        separators=(",", ":"),
    )


def read(receipt: str) -> Bought:
    """What the receipt says. Raises ProviderError when it is none of ours."""
    try:
        document = json.loads(receipt)
        return Bought(
            links={int(index): str(link) for index, link in document["links"].items()},
            failures=[
                ImageFailed(
                    index=int(failed["index"]),
                    error=TaskError(
                        reason=Reason(failed["reason"]),
                        message=str(failed["message"]),
                        retryable=bool(failed["retryable"]),
                    ),
                )
                for failed in document["failures"]
            ],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProviderError(
            "The record of what was bought cannot be read; fetching it again would not help.",
            sent=Sent.IN_DOUBT,
            reason=Reason.OUTPUT_FETCH_FAILED,
            retryable=False,
        ) from None


_NO_PICTURE = TaskError(
    reason=Reason.PROVIDER_REJECTED,
    message="Ark answered without this image and without a reason. Submit again.",
    retryable=True,
)
