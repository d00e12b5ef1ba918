//! The bounds that more than one room must agree on. A room's own bounds stand in that room.

/// Bytes of a data set's head kept in memory: every element before the pixels, to this cap.
/// Functional groups of enhanced multi-frame objects reach some hundred KiB; what lies behind the cap is
/// stored and forwarded all the same, but rules cannot see or edit it.
pub const HEAD_MAX: usize = 4 << 20;

/// Bytes of one value that the scanner keeps in the head; longer ones are indexed without their bytes when they
/// are the last thing before the cap.
pub const VALUE_MAX: usize = 1 << 20;

/// Depth of nested sequences that is accepted (as DCMTK).
pub const DEPTH_MAX: usize = 64;

/// Elements, items and delimiters in one head.
pub const NODES_MAX: usize = 200_000;

/// Bytes that a deflated head may inflate to, and its largest ratio to the deflated bytes.
pub const INFLATE_HEAD_MAX: usize = 64 << 20;
pub const INFLATE_RATIO_MAX: usize = 1_100;

/// The chunk in which a payload is read from a socket, written to and read from disk.
pub const CHUNK: usize = 256 << 10;

/// An A-ASSOCIATE-RQ may be this long whatever the maximum PDU length: 128 contexts with 40 syntaxes are 350 KB.
pub const ASSOCIATE_MAX: usize = 1 << 20;

/// The most memory that one incoming association takes: its head, two chunks on the way to disk, one PDU read buffer
/// and room for the request. Named in the operator's guide and held by a test.
pub const ASSOCIATION_MEMORY_MAX: usize = 2 * HEAD_MAX + 4 * CHUNK + ASSOCIATE_MAX;

const _: () = assert!(VALUE_MAX <= HEAD_MAX);
