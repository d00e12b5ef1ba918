//! Names from outside, made into types at the door. Inner code takes the type and never checks again.
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not a name of the kind asked for. Never carries the text: it may be patient data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {0} characters")]
    TooLong(usize),
    #[error("has a character that is not allowed here")]
    Character,
}

/// An application entity title: 1 to 16 printable ASCII characters without backslash,
/// leading and trailing spaces removed (PS3.5 6.2, VR AE).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AeTitle(String);

/// A DICOM UID: 1 to 64 characters of digits and dots, padding removed. Leading zeros in a component
/// and empty components are tolerated, because devices in the field send them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// A destination's name as configuration, rules and metrics use it: `[a-z0-9_-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DestinationId(String);

/// A `[[sources]]` entry's name: `[a-z0-9_-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceId(String);

/// The box's own name of an instance: 16 bytes, the first 8 its arrival in microseconds (big-endian),
/// the rest random, so that ids sort by arrival and never collide. The only name a spool file has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub [u8; 16]);

/// The box's own name of a job. Never used twice in the life of a spool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl AeTitle {
    /// # Errors
    /// Empty, longer than 16 characters after trimming, or a character outside 0x20–0x7E, or a backslash.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim_matches([' ', '\0']);
        check(text, 16, |b| (0x20..=0x7e).contains(&b) && b != b'\\')?;
        Ok(Self(text.to_owned()))
    }
}

impl Uid {
    /// # Errors
    /// Empty, longer than 64 characters without padding, or a character other than digits and dots.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim_matches([' ', '\0']);
        check(text, 64, |b| b.is_ascii_digit() || b == b'.')?;
        Ok(Self(text.to_owned()))
    }

    /// For the standard's own UIDs, which are known to be well formed.
    #[must_use]
    pub fn known(text: &'static str) -> Self {
        debug_assert!(Self::parse(text).is_ok());
        Self(text.to_owned())
    }
}

impl DestinationId {
    /// # Errors
    /// Anything but `[a-z0-9_-]{1,32}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, 32, configured)?;
        Ok(Self(text.to_owned()))
    }
}

impl SourceId {
    /// # Errors
    /// Anything but `[a-z0-9_-]{1,32}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, 32, configured)?;
        Ok(Self(text.to_owned()))
    }
}

impl InstanceId {
    /// A new id for an arrival at `wall_us` microseconds since 1970.
    #[must_use]
    pub fn new(wall_us: u64, random: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&wall_us.to_be_bytes());
        id[8..].copy_from_slice(&random.to_be_bytes());
        Self(id)
    }

    /// # Errors
    /// Anything but 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, 32, |b| b.is_ascii_hexdigit())?;
        let number = u128::from_str_radix(text, 16).map_err(|_| NameError::Character)?;
        if text.len() == 32 {
            Ok(Self(number.to_be_bytes()))
        } else {
            Err(NameError::Empty)
        }
    }
}

fn check(text: &str, longest: usize, allowed: impl Fn(u8) -> bool) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > longest {
        Err(NameError::TooLong(longest))
    } else if !text.bytes().all(allowed) {
        Err(NameError::Character)
    } else {
        Ok(())
    }
}

fn configured(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

impl AeTitle {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl Uid {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is this UID. Some peers write its parts with leading zeros, some take them away (PS3.5 9.1 has none).
    #[must_use]
    pub fn is_written_as(&self, text: &str) -> bool {
        fn parts(text: &str) -> impl Iterator<Item = &str> {
            text.split('.').map(|part| part.trim_start_matches('0'))
        }
        self.0 == text || parts(&self.0).eq(parts(text))
    }
}
impl DestinationId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl SourceId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AeTitle {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}
impl TryFrom<String> for Uid {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}
impl TryFrom<String> for DestinationId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}
impl TryFrom<String> for SourceId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}
impl From<AeTitle> for String {
    fn from(name: AeTitle) -> Self {
        name.0
    }
}
impl From<Uid> for String {
    fn from(name: Uid) -> Self {
        name.0
    }
}
impl From<DestinationId> for String {
    fn from(name: DestinationId) -> Self {
        name.0
    }
}
impl From<SourceId> for String {
    fn from(name: SourceId) -> Self {
        name.0
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ae_titles_are_trimmed_and_bounded() {
        assert_eq!(AeTitle::parse(" CT1  ").unwrap().as_str(), "CT1");
        assert_eq!(AeTitle::parse("  "), Err(NameError::Empty));
        assert_eq!(AeTitle::parse("A\\B"), Err(NameError::Character));
        assert_eq!(AeTitle::parse("A\nB"), Err(NameError::Character));
        assert_eq!(AeTitle::parse("12345678901234567"), Err(NameError::TooLong(16)));
    }

    #[test]
    fn uids_lose_padding_and_keep_leading_zeros() {
        assert_eq!(Uid::parse("1.2.03\0").unwrap().as_str(), "1.2.03");
        assert_eq!(Uid::parse("1.2/../3"), Err(NameError::Character));
        assert_eq!(Uid::parse(&"1".repeat(65)), Err(NameError::TooLong(64)));
    }

    #[test]
    fn a_uid_is_the_same_with_and_without_leading_zeros_and_no_other() {
        let uid = Uid::parse("1.2.0.030").unwrap();
        let same = ["1.2.0.030", "1.2.0.30", "1.02.00.30"];
        assert!(same.iter().all(|text| uid.is_written_as(text)));
        let others = ["1.2.0.3", "1.2.30", "1.2.0.30.0", "1.2.0", ""];
        assert!(!others.iter().any(|text| uid.is_written_as(text)));
    }

    #[test]
    fn instance_ids_sort_by_arrival_and_read_back() {
        let (a, b) = (InstanceId::new(1, u64::MAX), InstanceId::new(2, 0));
        assert!(a < b);
        assert_eq!(InstanceId::parse(&a.to_string()), Ok(a));
        assert!(InstanceId::parse("00").is_err());
    }
}
