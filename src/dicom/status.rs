//! What a C-STORE answer means to the sender of the instance: all 65,536 words in one table (failures.md section 6, PS3.4 B.2.3, PS3.7 C).

/// What follows from a status word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Meaning {
    /// Stored.
    Success,
    /// Stored, with a remark that is kept (Bxxx, 0001, 0107, 0116).
    Warning,
    /// The destination cannot take anything now: the whole lane slows; counts against no instance beyond its attempt.
    Congested,
    /// This instance is the trouble: few tries, then hold.
    Instance,
    /// Not authorised: the lane is paused for a person.
    Unauthorised,
    /// Duplicate SOP instance: stored only if policy says so.
    Duplicate,
    /// Not a status that C-STORE may answer: a failure, tried again, then held.
    Unknown,
}

/// Classifies a status word.
#[must_use]
pub fn meaning(_status: u16) -> Meaning {
    todo!()
}

/// C-STORE answers that this box gives.
pub const SUCCESS: u16 = 0x0000;
pub const OUT_OF_RESOURCES: u16 = 0xA700;
pub const DATA_SET_MISMATCH: u16 = 0xA900;
pub const CANNOT_UNDERSTAND: u16 = 0xC000;
pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
pub const INVALID_SOP_INSTANCE: u16 = 0x0117;
pub const UNRECOGNIZED_OPERATION: u16 = 0x0211;
