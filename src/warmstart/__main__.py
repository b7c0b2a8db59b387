"""python -m warmstart"""

from warmstart.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
