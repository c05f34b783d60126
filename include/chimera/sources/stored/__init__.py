"""Files that others write, in a folder of this machine or of an object store."""
