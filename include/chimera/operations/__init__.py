"""What a person does with a running pipeline: replay, trace, search, gaps, freshness, reports."""
