"""``python -m wsss_cli`` and the script ``wsss``."""

import sys


def main() -> None:
    """Entry point. Nothing is imported outside of it, so that Ctrl-C at once is quiet too."""
    try:
        from wsss_cli.interrupt import heed

        heed()
        from wsss_cli.cli import main
    except KeyboardInterrupt as error:
        print("wsss: interrupted", file=sys.stderr)
        sys.exit(128 + getattr(error, "number", 2))
    main()


if __name__ == "__main__":
    main()
