"""Find the root of files that others write, by its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store.storage import s3_client
from include.chimera.sources.stored.stored_files import shown
from include.chimera.sources.stored.stored_folders import LocalRoot

if TYPE_CHECKING:
    from include.chimera.sources.stored.stored_files import Purpose, SourceRoot


def stored_root(place: str, purpose: Purpose, client: Any = None) -> SourceRoot:  # noqa: ANN401 - boto3 has no types
    """Return the root of files.

    Args:
        place: A local folder, or `s3://<bucket>/<folder>`.
        purpose: What they are for.
        client: The boto3 client of the store that holds a bucket; None: the lake's.

    Raises:
        ConfigurationError: The place is another URL, or one without a bucket.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return LocalRoot(Path(place), purpose)
    bucket, _, folder = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigurationError(
            expected="a local folder or s3://<bucket>/<folder>",
            came=f"a URL, {scheme}://{shown(bucket)}",
            where=purpose.setting,
            remedy=f"set it to where {purpose.what} are written",
        )
    from include.chimera.sources.stored.stored_buckets import (  # noqa: PLC0415 - boto3 takes 0.3 s
        BucketRoot,
    )

    return BucketRoot(client or s3_client(), bucket, folder.rstrip("/"), purpose)
