"""The hours of `make run`: chosen, followed, reported."""
