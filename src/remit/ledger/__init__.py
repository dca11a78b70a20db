"""How do we prove it? Entries, Merkle tiles, checkpoints, proofs; nothing here knows what an identity is.

Below: `kernel` alone. `storage` keeps the rows and feeds `TileDirectory`; `access` writes decisions to `SegmentLog`.
"""

from remit.ledger.batches import BATCH_TYPE, Batch, parse_batch, verify_segments
from remit.ledger.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from remit.ledger.directory import TileDirectory
from remit.ledger.merkle import ConsistencyProof, InclusionProof, verify_consistency, verify_inclusion
from remit.ledger.note import Ed25519Signer, NoteSigner, VerifierKey, parse_verifier_key
from remit.ledger.proofs import (
    IncludedEntry,
    ProvedRecord,
    RecordProof,
    inclusion_bundle,
    parse_bundle,
    record_bundle,
    verify_bundle,
    verify_record_bundle,
)
from remit.ledger.segment_files import Record, SegmentFolder
from remit.ledger.segment_writer import GAP_TYPE, Gap
from remit.ledger.segments import Page, SegmentLog, SegmentPosition
from remit.ledger.tiles import MAX_ENTRY_BYTES, Tile, check_entry, parse_path
from remit.ledger.verify import Verified, verify_directory

__all__ = [
    "BATCH_TYPE",
    "Batch",
    "Checkpoint",
    "ConsistencyProof",
    "Ed25519Signer",
    "GAP_TYPE",
    "Gap",
    "IncludedEntry",
    "InclusionProof",
    "MAX_ENTRY_BYTES",
    "NoteSigner",
    "Page",
    "ProvedRecord",
    "Record",
    "RecordProof",
    "SegmentFolder",
    "SegmentLog",
    "SegmentPosition",
    "Tile",
    "TileDirectory",
    "Verified",
    "VerifierKey",
    "check_entry",
    "inclusion_bundle",
    "parse_batch",
    "parse_bundle",
    "parse_checkpoint",
    "parse_path",
    "parse_verifier_key",
    "record_bundle",
    "verify_bundle",
    "verify_checkpoint",
    "verify_consistency",
    "verify_directory",
    "verify_inclusion",
    "verify_record_bundle",
    "verify_segments",
]
