"""Records that could not be published: kept once, with their reason, and erased on request."""
