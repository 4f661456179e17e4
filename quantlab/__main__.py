"""`python -m quantlab`: the command line, where the script is not on the path."""

from quantlab.cli import main

if __name__ == "__main__":
    main()
