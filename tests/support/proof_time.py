"""How long the long proofs take: together PROOF_MINUTES minutes, of which each has its share."""

import os
from collections.abc import Mapping
from fractions import Fraction

MINUTES = float(os.environ.get("PROOF_MINUTES", "10"))
SHARES: Mapping[str, Fraction] = {  # in a hundred; of a proof on several databases, those of a machine without MySQL 8
    "random kills": Fraction(20, 100),
    "several admins": Fraction(16, 100) / 2,
    "broker kills": Fraction(15, 100),
    "broker machine": Fraction(15, 100),
    "takeovers": Fraction(12, 100) / 3,
    "admin store machine": Fraction(8, 100),
    "relays": Fraction(8, 100),
    "shard moves": Fraction(6, 100),
}


def seconds(proof: str) -> float:
    """The share of one of SHARES."""
    return float(SHARES[proof] * 60) * MINUTES
