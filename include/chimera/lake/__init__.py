"""The lake: the only room that knows deltalake.

Each data commit goes the same way: DuckDB writes Parquet files into the table's folder
(`files`), one Delta commit makes them part of the table (`commits`). What waits between the two
for its gate is described by a manifest (`stage`).
"""
