"""`python -m mhostd`."""

from mhostd.main import main

raise SystemExit(main())
