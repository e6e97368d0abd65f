"""`python -m disttorch script.py`: run a script written for PyTorch."""

from disttorch._script import main

if __name__ == "__main__":
    main()
