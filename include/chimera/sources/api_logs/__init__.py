"""The API's logs: folders, files, lines."""
