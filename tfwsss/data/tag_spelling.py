"""Tags that look as if they were several: another separator than "|", or a list in another notation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

EXAMPLES = 5  # tags named in a remark
SEPARATORS = {",": "a comma", ";": "a semicolon", "/": "a slash", "+": "a plus sign", "&": "an ampersand", "\t": "a tab", " ": "a blank"}
BARS = "\u00a6\u2223\u2502\uff5c\u01c0"  # characters that look like the one between tags
# Names of single things contain these, too: only where every part is known by another tag.
IN_NAMES = {"/", "+", "&", " "}


def separator_remarks(tags: Iterable[str]) -> tuple[str, ...]:
    """Remarks on tags that seem to be combinations, each of which would be a class of its own.

    A tag counts where it is a list in JSON or Python's notation, contains a character that looks like "|", or can be split
    at one of `SEPARATORS` into parts that are tags themselves or occur in several tags; with blanks and other characters of
    ordinary names, only where all parts do.
    """
    tags = sorted(set(tags))
    remarks = []
    if listed := [tag for tag in tags if re.match(r"\s*[\[{].*[\]}]\s*$", tag, re.DOTALL)]:
        remarks.append(_remark(listed, "are lists in another notation"))
    if barred := [tag for tag in tags if any(bar in tag for bar in BARS)]:
        remarks.append(_remark(barred, 'contain a character that only looks like "|"'))
    rest = [tag for tag in tags if tag not in listed]
    for separator, several in joined(rest).items():
        remarks.append(_remark(several, f"can be split at {SEPARATORS[separator]} into parts that are or occur in other tags"))
    return tuple(remarks)


def joined(tags: Iterable[str]) -> dict[str, list[str]]:
    """For each of `SEPARATORS` that seems to stand between tags: those that are combinations, sorted."""
    tags, found = sorted(set(tags)), {}
    for separator in SEPARATORS:
        split = {tag: [part.strip() for part in tag.split(separator) if part.strip()] for tag in tags}
        counts = Counter(part for parts in split.values() for part in set(parts))
        enough = all if separator in IN_NAMES else any
        if several := [tag for tag, parts in split.items() if len(parts) > 1 and enough(part in split or counts[part] > 1 for part in parts)]:
            found[separator] = several
    return found


def _remark(tags: list[str], what: str) -> str:
    more = f" and {len(tags) - EXAMPLES} more" if len(tags) > EXAMPLES else ""
    return f'{len(tags)} tags {what}; each of them is a class of its own, as only "|" separates tags: {", ".join(map(repr, tags[:EXAMPLES]))}{more}'
