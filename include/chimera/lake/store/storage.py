"""Handle the lake's files with the same calls for a local folder and for `s3://`.

A place is an absolute path or a URL, as in `folder_of`. An object store's credentials and endpoint
come from the usual `AWS_…` variables (`settings.ObjectStore`).
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from pyarrow import fs

from include.chimera.errors import ConfigurationError
from include.chimera.settings import get_object_store, get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from pyarrow import NativeFile

T = TypeVar("T")
R = TypeVar("R")
_SCHEME = "://"
_REQUESTS = 16
_CONFLICT, _EXISTS = 409, 412  # HTTP answers to a conditional write that lost to another one


def is_remote(place: str) -> bool:
    """Is the place in an object store?"""
    return _SCHEME in place


@cache
def _filesystem(scheme: str) -> fs.FileSystem:
    if not scheme:
        return fs.LocalFileSystem()
    if scheme != "s3":
        raise ConfigurationError(
            expected="a local folder or s3://<bucket>/<folder>",
            came=f"{scheme}://…",
            where="setting CHIMERA_LAKE_ROOT",
            remedy="put the lake into an S3-compatible store, or mount the other one as a folder",
        )
    store = get_object_store()
    # Delayed: a small object is put by one request instead of the three of a multipart upload.
    options: dict[str, Any] = {"region": store.region, "allow_delayed_open": True}
    if store.endpoint_url:
        endpoint = urlsplit(store.endpoint_url)
        options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    if store.access_key_id:
        options["access_key"] = store.access_key_id
        options["secret_key"] = store.secret_access_key.get_secret_value()
        options["session_token"] = store.session_token.get_secret_value()
    return fs.S3FileSystem(**options)


def _locate(place: str) -> tuple[fs.FileSystem, str]:
    scheme, _, rest = place.rpartition(_SCHEME)
    return _filesystem(scheme), rest


def make_folder(place: str) -> None:
    """Create a local folder and its parents; do nothing in an object store.

    A new state folder or lake is private to this user, because dead letters hold raw rows. To share
    a lake with other users, create its folder beforehand or change its mode.
    """
    if is_remote(place):
        return
    settings, folder = get_settings(), Path(place)
    for root in (settings.state_dir, Path(settings.lake)):
        if folder.is_relative_to(root):
            root.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                root.mkdir(mode=0o700)
    folder.mkdir(parents=True, exist_ok=True)


def folders(place: str) -> list[str]:
    """Return the names of the folders in a folder, sorted; [] if it does not exist."""
    return _listing(_listed(place)).folders


def files(place: str) -> list[str]:
    """Return the names of the files in a folder, sorted; [] if it does not exist."""
    return _listing(_listed(place)).files


@dataclass(frozen=True)
class Listing:
    """The names in a folder, sorted."""

    folders: list[str]
    files: list[str]


def listings(places: Sequence[str]) -> list[Listing]:
    """Return what is in each folder, in parallel requests; a missing folder has nothing."""
    return at_once(lambda place: _listing(_listed(place)), places)


def _listing(entries: Iterable[fs.FileInfo]) -> Listing:
    names: dict[Any, list[str]] = {fs.FileType.Directory: [], fs.FileType.File: []}
    for entry in entries:
        names.setdefault(entry.type, []).append(entry.base_name)
    return Listing(sorted(names[fs.FileType.Directory]), sorted(names[fs.FileType.File]))


def _listed(place: str, *, is_deep: bool = False) -> list[fs.FileInfo]:
    filesystem, path = _locate(place)
    wanted = fs.FileSelector(path, recursive=is_deep, allow_not_found=True)
    try:
        found = filesystem.get_file_info(wanted)
    except FileNotFoundError:
        # pyarrow lists, and asks only then whether there is such a folder: it was just made.
        found = filesystem.get_file_info(wanted)
    if not found and is_remote(place):
        _require_bucket(path.partition("/")[0])
    return list(found)


@cache
def _require_bucket(bucket: str) -> None:
    """Refuse a bucket that does not exist, which pyarrow treats as an empty one; ask only once."""
    if _filesystem("s3").get_file_info(bucket).type == fs.FileType.NotFound:
        raise ConfigurationError(
            expected="a bucket that exists",
            came=f"none of the name {bucket}",
            where="setting CHIMERA_LAKE_ROOT",
            remedy="correct the name or AWS_ENDPOINT_URL, or make the bucket",
        )


@dataclass(frozen=True)
class StoredFile:
    """A file below a folder: its place, its size in bytes, and when it was last changed, UTC."""

    place: str
    size_bytes: int
    changed_at: datetime


def walk(place: str, *, has_folders: bool = False) -> list[StoredFile]:
    """Return the files below a folder, recursively; [] if it does not exist.

    Args:
        place: The folder.
        has_folders: Whether to include folders, with a size of zero bytes.
    """
    _, path = _locate(place)
    return [
        StoredFile(place + entry.path[len(path) :], entry.size or 0, entry.mtime)
        for entry in _listed(place, is_deep=True)
        if entry.is_file or has_folders
    ]


def existing(places: Sequence[str]) -> list[bool]:
    """Return whether each file or folder exists, in parallel requests to an object store."""
    if not places:
        return []
    filesystem, _ = _locate(places[0])
    # pyarrow looks up a list one by one.
    found = at_once(filesystem.get_file_info, [_locate(place)[1] for place in places])
    return [entry.type != fs.FileType.NotFound for entry in found]


def open_file(place: str) -> NativeFile:
    """Open a file for reading.

    Raises:
        FileNotFoundError: There is no such file.
    """
    filesystem, path = _locate(place)
    return filesystem.open_input_file(path)


def read_text(place: str) -> str | None:
    """Return a file's text, None if it does not exist."""
    try:
        with open_file(place) as file:
            return str(file.read().decode())
    except FileNotFoundError:
        return None


def write_text(place: str, text: str) -> None:
    """Write a text file, as `write_bytes` does."""
    write_bytes(place, text.encode())


def write_bytes(place: str, content: bytes) -> None:
    """Write a file atomically, replacing any older one."""
    filesystem, path = _locate(place)
    written = path
    if not is_remote(place):
        folder, _, name = path.rpartition("/")
        make_folder(folder)
        written = f"{folder}/.{name}.{uuid4().hex}"
    with filesystem.open_output_stream(written) as stream:
        stream.write(content)
    if written != path:
        filesystem.move(written, path)


def create_text(place: str, text: str) -> bool:
    """Create a file, atomically and durably; return False if it already exists."""
    if is_remote(place):
        return _create_object(place, text)
    target = Path(place)
    make_folder(str(target.parent))
    # A crash leaves a file here, removed with delta-rs' half-written files (`orphaned_files`).
    written = target.with_name(f"{target.name}#{uuid4().int}")
    with written.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(written, target)
    except FileExistsError:
        return False
    finally:
        written.unlink()
    return True


def try_conditional_put(folder: str) -> None:
    """Let two writers create the same file at once: a commit must be refused to all but one.

    Args:
        folder: Where to create it, and to delete it again.

    Raises:
        ConfigurationError: Both succeeded, or neither, or a later one did.
        OSError: The store does not answer, or refuses.
    """
    place, texts = f"{folder}/_trial-{uuid4().hex}", ("one", "two")
    try:
        created = at_once(lambda text: create_text(place, text), texts)
        created.append(create_text(place, "late"))
        winners = [text for text, is_ours in zip((*texts, "late"), created, strict=True) if is_ours]
        if winners != [read_text(place)] or created[-1]:
            raise ConfigurationError(
                expected="a store where one of two writers of the same new object is refused",
                came=f"{len(winners)} of three writers succeeded",
                where=folder,
                remedy="take a store that honours If-None-Match: * when an object is put; on any "
                "other one, commits overwrite each other",
            )
    finally:
        delete_files([place])


def s3_client() -> Any:  # noqa: ANN401 - boto3 ships no types
    """Return a boto3 client of the object store, for what pyarrow can't do."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - 0.3 s, needed rarely
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    store = get_object_store()
    return boto3.client(
        "s3",
        region_name=store.region,
        endpoint_url=store.endpoint_url or None,
        config=Config(s3={"addressing_style": "path"}) if store.endpoint_url else None,
        aws_access_key_id=store.access_key_id or None,
        aws_secret_access_key=store.secret_access_key.get_secret_value() or None,
        aws_session_token=store.session_token.get_secret_value() or None,
    )


def _create_object(place: str, text: str) -> bool:
    """Create an object unless it exists, which pyarrow can't do."""
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy

    bucket, _, key = _locate(place)[1].partition("/")
    try:
        s3_client().put_object(Bucket=bucket, Key=key, Body=text.encode(), IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (_CONFLICT, _EXISTS):
            return False
        raise OSError(str(error)) from None
    return True


def fetch_folder(place: str, folder: str) -> bool:
    """Copy a folder's files to a local folder; return False if it has none."""
    found = walk(place)
    at_once(lambda file: _copy_bytes(file.place, folder + file.place[len(place) :]), found)
    return bool(found)


def replace_folder(place: str, folder: str) -> None:
    """Make a folder hold a local folder's files and no others; a reader never finds it empty."""
    new, old = walk(folder), walk(place)
    at_once(lambda file: _copy_bytes(file.place, place + file.place[len(folder) :]), new)
    names = {file.place[len(folder) :] for file in new}
    delete_files(file.place for file in old if file.place[len(place) :] not in names)


def _copy_bytes(place: str, target: str) -> None:
    with open_file(place) as file:
        write_bytes(target, file.read())


def at_once(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do work on each item, in parallel because an object store answers late."""
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(work, items))


def copy_file(place: str, target: str) -> None:
    """Copy a file of the lake within its disk or object store."""
    filesystem, path = _locate(place)
    _, end = _locate(target)
    if not is_remote(place):
        make_folder(end.rpartition("/")[0])
    filesystem.copy_file(path, end)


def delete_files(places: Iterable[str]) -> None:
    """Delete files, ignoring those that do not exist, in parallel in an object store."""
    at_once(_delete_file, places)


def _delete_file(place: str) -> None:
    filesystem, path = _locate(place)
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)


def delete_folder(place: str) -> None:
    """Delete a folder and its contents, a Delta table's log first."""
    filesystem, path = _locate(place)
    for folder in (f"{path}/_delta_log", path):
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(folder)


def move_folder(place: str, target: str) -> None:
    """Move a folder; in an object store, copy and delete it, a Delta table's log last."""
    filesystem, path = _locate(place)
    _, end = _locate(target)
    if not is_remote(place):
        make_folder(end.rpartition("/")[0])
        filesystem.move(path, end)
        return
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    names = [entry.path for entry in found if entry.is_file]
    for name in sorted(names, key=lambda name: ("/_delta_log/" in name, name)):
        filesystem.copy_file(name, end + name[len(path) :])
    delete_folder(place)
