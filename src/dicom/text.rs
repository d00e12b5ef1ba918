//! Character sets: text of a data set to and from Unicode, ISO 2022 code extensions included (PS3.5 6.1.2, PS3.3 C.12.1.1.2).

/// The character sets in scope for an item, from its Specific Character Set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Charset {
    _todo: (),
}

/// A text that a character set cannot express.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the value cannot be written in the data set's character set")]
pub struct Unencodable;

impl Charset {
    /// From the values of (0008,0005). Unknown terms are kept as the default repertoire and reported by `is_known`.
    #[must_use]
    pub fn of(_terms: &[String]) -> Self {
        todo!()
    }
}
