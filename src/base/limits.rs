//! The bounds that more than one room must agree on. A room's own bounds stand in that room.

/// Bytes of a data set's head kept in memory: every element before the pixels, to this cap.
/// Functional groups of enhanced multi-frame objects reach some hundred KiB; what lies behind the cap is
/// stored and forwarded all the same, but rules cannot see or edit it.
pub const HEAD_MAX: usize = 4 << 20;

/// Depth of nested sequences that is accepted (as DCMTK).
pub const DEPTH_MAX: usize = 64;

/// Elements and items in one head, and the bytes that the index keeps for each (asserted in `dicom/head`).
pub const NODES_MAX: usize = 200_000;
pub const NODE_BYTES: usize = 28;

/// Bytes that a deflated head may inflate to: a second fence, the head's own cap stops the inflater earlier.
pub const INFLATE_HEAD_MAX: usize = 8 << 20;

/// The largest ratio of inflated to deflated bytes, judged from the first MiB on. Deflate itself ends at 1,032;
/// a head that is nothing but one run comes near it, an image with an empty overlay plane and its other elements does not.
pub const INFLATE_RATIO_MAX: usize = 1_000;

/// The block that is read from a socket.
pub const CHUNK: usize = 256 << 10;

/// The most that is handed to a disk thread at once, in and out: a slice of 512 x 512 with its head is one on its way out, and two on
/// its way in, where the first is short (`spool/writing.rs`). Each hand-over costs two wake-ups.
pub const STRIDE: usize = 640 << 10;

/// A stride's memory begins and ends at a block of the disk, and holds what was left of the block before.
pub const STRIDE_EDGES: usize = 16 << 10;

/// An A-ASSOCIATE-RQ may be this long whatever the maximum PDU length: 128 contexts with 40 syntaxes are 350 KB.
pub const ASSOCIATE_MAX: usize = 1 << 20;

/// The most memory that one incoming association takes: its head and the head's index (each twice while they grow),
/// two strides on the way to disk, the pieces that come from the socket and room for the request: 21.5 MiB.
/// Named in `config/reference.toml`, held by `tests/it/memory.rs`.
pub const ASSOCIATION_MEMORY_MAX: usize =
    2 * HEAD_MAX + 2 * NODES_MAX * NODE_BYTES + 2 * (STRIDE + STRIDE_EDGES) + 2 * CHUNK + ASSOCIATE_MAX;

const _: () = assert!(INFLATE_HEAD_MAX > HEAD_MAX && HEAD_MAX < u32::MAX as usize && DEPTH_MAX < u8::MAX as usize);
