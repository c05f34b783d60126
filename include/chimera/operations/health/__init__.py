"""The health of the lake's tables: what is known, which state that is, and pages about it."""
