"""Load what tasks need before their process forks them."""
