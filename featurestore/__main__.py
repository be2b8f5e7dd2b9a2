"""``python -m featurestore`` is ``fs``."""

from featurestore.cli import main

main()
