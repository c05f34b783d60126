"""`python -m include.chimera`."""

from include.chimera.cli import main

if __name__ == "__main__":
    main()
