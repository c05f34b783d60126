"""Records that could not be published: kept once, with the reason, and erased on request."""
