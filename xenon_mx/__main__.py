"""`python -m xenon_mx` is the command `xenon`."""

from xenon_mx import main

if __name__ == "__main__":
    main.xenon()
