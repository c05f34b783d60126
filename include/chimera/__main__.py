"""`python -m include.chimera`."""

from include.chimera.cli.app import main

if __name__ == "__main__":
    main()
