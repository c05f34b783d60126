"""The API's logs: their folders, files and lines."""
