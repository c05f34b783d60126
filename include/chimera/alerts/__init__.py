"""What is said to people: messages, their two renderings, and the outbox that keeps them."""
