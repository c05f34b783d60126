"""JSON in files, of which a profile's SQL makes rows."""
