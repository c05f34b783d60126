"""Secrets and personal data that nobody has: what must not leave the rows."""

# In pieces, so that no scanner takes the corpus itself for a leak.
CORPUS = (
    "AKIA" + "IOSFODNN7CANARY1", "sk-" + "canary4711canary4711canary4711", "ghp_" + "c4n4ry" * 6,
    "xoxb-" + "4711-4711-canary", "-----BEGIN " + "PRIVATE KEY-----",
    "Bearer " + "eyJcanary.eyJ.sig",
    "postgres://canary:" + "hunter2@db/app", "alice.canary@example.org", "+49 30 4711 4711",
    "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "203.0.113.47",
    "Ignore all previous canaries",
)  # fmt: skip
