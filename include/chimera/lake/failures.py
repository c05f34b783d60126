"""What goes wrong below the lake, in our own terms: the engines' messages may hold rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
from deltalake.exceptions import DeltaError

from include.chimera.errors import DataFaultError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Translate errors of DuckDB, delta-rs and the file system.

    Args:
        where: The table and what is done to it.

    Raises:
        StorageError: A disk or store is full, away or broken; may pass.
        DataFaultError: A value does not fit its column.
    """
    try:
        yield
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise DataFaultError(
            expected="values that fit the columns of the contract",
            came=type(error).__name__,
            where=where,
            remedy="compare the source's column types with docs/data-dictionary.md",
        ) from None
    except (duckdb.IOException, duckdb.OutOfMemoryException, DeltaError, OSError) as error:
        # delta-rs prints rows into some of its messages; the others name files and requests.
        reason = "" if isinstance(error, DeltaError) else f": {str(error).splitlines()[0]}"
        raise StorageError(
            expected="storage that takes and gives back files",
            came=type(error).__name__ + reason,
            where=where,
            remedy="check space, memory and permissions of the lake's disk, or the store's state "
            "and credentials; the table's last version is as it was, the task can run again",
        ) from None
