"""The only room that knows Great Expectations."""
