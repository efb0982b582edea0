"""``python -m wsss_cli`` is the ``wsss`` command."""

from wsss_cli.cli import main

if __name__ == "__main__":
    main()
