"""The lake: the only room that knows deltalake.

Each data commit goes the same way: DuckDB writes Parquet files into the table's folder
(`delta/parquet_files.py`), one Delta commit makes them part of the table (`delta/commits.py`).
What waits between the two for its gate is described by a manifest (`staged/manifests.py`).
"""
