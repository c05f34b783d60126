"""Celery's part of a stack: the broker and the workers."""
