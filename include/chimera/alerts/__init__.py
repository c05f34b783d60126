"""Alerts to people: messages, their two renderings, and the outbox that delivers them."""
