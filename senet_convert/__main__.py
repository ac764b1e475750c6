"""`python -m senet_convert`."""

from .cli import main

main()
