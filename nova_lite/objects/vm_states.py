"""Stable states of an instance (compute specification §2.1)."""

ACTIVE = "active"
BUILDING = "building"
PAUSED = "paused"
SUSPENDED = "suspended"
STOPPED = "stopped"
RESCUED = "rescued"
RESIZED = "resized"
SOFT_DELETED = "soft-delete"
DELETED = "deleted"
ERROR = "error"

ALL = frozenset((ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED, RESCUED, RESIZED, SOFT_DELETED, DELETED, ERROR))

# Never set here; rows of neighbours may carry them.
SHELVED = "shelved"
SHELVED_OFFLOADED = "shelved_offloaded"
