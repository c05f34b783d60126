"""What a person does to a running pipeline: replay, trace, search, gaps, freshness, reports."""
