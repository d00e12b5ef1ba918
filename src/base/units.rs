//! Durations and sizes with their units, as configuration writes them: `"30s"`, `"64MiB"`, `"10%"`.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A span of time, written `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"3days"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

impl Span {
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    #[must_use]
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

/// The longest span that is read: added to any time of a clock it still gives a time. A hundred years of humantime's 365.25 days.
const SPAN_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// A number of bytes, written `"512KiB"`, `"64MiB"`, `"5GiB"`, or a plain count with `B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl Size {
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

/// A share of a disk, written as a size or as a percentage of the whole: `"5GiB"`, `"10%"`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Share {
    Bytes(u64),
    Percent(f64),
}

impl Share {
    /// The share of `whole`, in the unit of `whole`.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().map_err(|_| wrong_size(text))?;
    let shift = match text[digits..].trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong_size(text)),
    };
    count.checked_mul(1 << shift).ok_or_else(|| wrong_size(text))
}

fn wrong_size(text: &str) -> String {
    format!("`{text}` is not a size: write a whole number with B, KiB, MiB, GiB or TiB, such as \"64MiB\"")
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let span = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a duration: write a number with its unit, such as \"30s\" or \"250ms\"")
        })?;
        if span > SPAN_MAX {
            return Err(format!(
                "`{text}` is longer than 100years, which no key needs: write a shorter one"
            ));
        }
        Ok(Self(span))
    }
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self)
    }
}

impl std::str::FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().strip_suffix('%') {
            None => parse_size(text).map(Self::Bytes),
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(format!("`{text}` is not a share: write 0% to 100%, or a size")),
            },
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => Size(*bytes).fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads a value that is written as text. `what` says how, for who writes something else.
pub(crate) fn from_text<'de, D, T>(deserializer: D, what: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = String>,
{
    deserializer.deserialize_str(Text(what, PhantomData))
}

struct Text<T>(&'static str, PhantomData<T>);

impl<T: std::str::FromStr<Err = String>> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration in quotes, such as \"30s\"")
    }
}
impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size in quotes, such as \"64MiB\"")
    }
}
impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a share or a size in quotes, such as \"10%\" or \"5GiB\"")
    }
}
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_read_back() {
        assert_eq!("64MiB".parse(), Ok(Size::mib(64)));
        assert!("64".parse::<Size>().is_err());
        assert!("99999999TiB".parse::<Size>().is_err());
        assert_eq!("30s".parse(), Ok(Span::secs(30)));
        assert!("30".parse::<Span>().is_err());
        assert!("100years".parse::<Span>().is_ok());
        for long in ["101years", "18446744073709551615s", "99999999999days"] {
            let said = long.parse::<Span>().unwrap_err();
            assert!(said.contains(long), "{said}");
        }
        assert_eq!("10%".parse::<Share>().map(|s| s.of(200)), Ok(20));
        assert!("120%".parse::<Share>().is_err());
        for text in ["3GiB", "512KiB", "7B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
