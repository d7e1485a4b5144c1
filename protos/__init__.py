"""The contract between the houses: protos, errors, and how daemons dial, serve, read settings and live."""

import os

# grpc's C core writes its own complaints beside our sentence; it reads this when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
