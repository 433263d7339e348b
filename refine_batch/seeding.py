"""Seeds that depend on the run's seed and the instance, never on the actor, the batch or the attempt."""

import hashlib


def instance_seed(seed: int, instance_id: str, purpose: str) -> int:
    """A 63-bit seed for one random choice of one instance.

    `purpose` ("network", "figures", …) keeps choices independent of one another.
    """
    digest = hashlib.blake2b(f"{seed}\x00{purpose}\x00{instance_id}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1
