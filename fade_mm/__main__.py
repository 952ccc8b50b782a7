"""``python -m fade_mm COMMAND ...``, as ``fade-mm COMMAND ...``."""

from fade_mm.cli import main

if __name__ == '__main__':
    main()
