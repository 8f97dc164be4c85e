"""``python -m fineedu``."""

from fineedu.cli import main

if __name__ == "__main__":
    main()
