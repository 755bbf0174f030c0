"""`python -m usl_backend`; everything is in `cli`."""

from usl_backend.cli import main

if __name__ == "__main__":
    main()
