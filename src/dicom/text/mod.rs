//! Character sets: text of a data set to and from Unicode, ISO 2022 code extensions included (PS3.5 6.1.2, PS3.3 C.12.1.1.2).
//!
//! Reading never fails: what a set cannot say becomes U+FFFD and is reported as lossy. Writing never loses: what a set cannot
//! say is refused. Values are split after decoding, because second bytes of multi-byte characters look like delimiters.
pub mod name;
mod repertoire;
#[cfg(test)]
mod tests;
pub mod value;

use encoding_rs::{Encoding, GB18030, GBK, UTF_8};
use repertoire::{Active, G0, G1};

/// The character sets in scope for an item, from its Specific Character Set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Charset {
    /// A set that allows no code extensions, and stands for everything.
    whole: Option<Whole>,
    /// What is active at the start of a value and after each reset.
    initial: Active,
    /// What escape sequences may bring in, in the order of the terms. Empty: no code extensions.
    extensions: Vec<Active>,
    unknown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whole {
    Utf8,
    Gb18030,
    Gbk,
}

/// How a value is divided, which decides where active sets are reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Backslashes divide values (SH, LO, UC and all VRs in the default repertoire).
    Values,
    /// Backslashes divide values, `^` and `=` divide parts of a name (PN).
    Names,
    /// One value (ST, LT, UT, UR).
    Text,
}

/// Decoded text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    pub values: Vec<String>,
    /// Some bytes could not be decoded and became U+FFFD.
    pub lossy: bool,
}

/// A text that a character set cannot express.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the value cannot be written in the data set's character set")]
pub struct Unencodable;

impl Charset {
    /// From the values of (0008,0005). Unknown terms are kept as the default repertoire and reported by `is_known`.
    /// Misspelt terms of the field (`ISO IR 100`, `ISO-IR 192`) are understood; of several terms a multi-byte set without code
    /// extensions stands alone, whatever the others say.
    #[must_use]
    pub fn of(terms: &[String]) -> Self {
        let terms: Vec<String> = terms.iter().map(|term| normal(term)).collect();
        let mut charset = Self::default();
        for (index, term) in terms.iter().enumerate() {
            let whole = match term.as_str() {
                "ISO IR 192" | "ISO 2022 IR 192" | "UTF 8" | "UTF8" => Some(Whole::Utf8),
                "GB18030" => Some(Whole::Gb18030),
                "GBK" => Some(Whole::Gbk),
                _ => None,
            };
            charset.whole = charset.whole.or(whole);
            let Some(active) = repertoire::of_term(term) else {
                charset.unknown |= whole.is_none();
                continue;
            };
            if index == 0 {
                charset.initial = active;
            }
            if terms.len() > 1 || term.starts_with("ISO 2022") {
                charset.extensions.push(active);
            }
        }
        if !charset.extensions.is_empty() && !charset.extensions.contains(&Active::default()) {
            // ASCII can always be called back (PS3.3 C.12.1.1.2).
            charset.extensions.push(Active::default());
        }
        charset
    }

    /// From the bytes of (0008,0005).
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(&Self::default().decode(bytes, Form::Values).values)
    }

    /// Whether all terms are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.unknown
    }

    /// Whether text is written as UTF-8.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        self.whole == Some(Whole::Utf8)
    }

    /// Decodes an element's value and splits it. Padding stays; `value::strings` removes it.
    #[must_use]
    pub fn decode(&self, bytes: &[u8], form: Form) -> Decoded {
        if let Some(whole) = self.whole {
            let (text, lossy) = whole.encoding().decode_without_bom_handling(bytes);
            return Decoded {
                values: split(&text, form),
                lossy,
            };
        }
        repertoire::decode(bytes, self.initial, self.fallback(), form)
    }

    /// Encodes one value, or several joined by backslashes. Never lossy.
    ///
    /// # Errors
    /// `Unencodable`.
    pub fn encode(&self, text: &str, form: Form) -> Result<Vec<u8>, Unencodable> {
        if let Some(whole) = self.whole {
            let (bytes, _, failed) = whole.encoding().encode(text);
            return if failed {
                Err(Unencodable)
            } else {
                Ok(bytes.into_owned())
            };
        }
        repertoire::encode(text, self.initial, &self.extensions, form)
    }

    /// What upper bytes mean where no escape sequence brought a set in: some writers declare code extensions and leave the escapes out.
    fn fallback(&self) -> G1 {
        let upper = self.extensions.iter().map(|set| set.g1).find(|g1| *g1 != G1::None);
        if self.initial.g1 == G1::None {
            upper.unwrap_or(G1::None)
        } else {
            self.initial.g1
        }
    }
}

impl Whole {
    fn encoding(self) -> &'static Encoding {
        match self {
            Self::Utf8 => UTF_8,
            Self::Gb18030 => GB18030,
            Self::Gbk => GBK,
        }
    }
}

/// Splits decoded text into values.
fn split(text: &str, form: Form) -> Vec<String> {
    match form {
        Form::Text => vec![text.to_owned()],
        Form::Values | Form::Names => text.split('\\').map(str::to_owned).collect(),
    }
}

/// A term in upper case with single spaces between its words.
fn normal(term: &str) -> String {
    let term = term
        .trim_matches([' ', '\0'])
        .to_ascii_uppercase()
        .replace(['_', '-'], " ");
    term.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Active {
    /// ASCII below and nothing above: the default repertoire.
    const DEFAULT: Self = Self {
        g0: G0::Ascii,
        g1: G1::None,
    };
}

impl Default for Active {
    fn default() -> Self {
        Self::DEFAULT
    }
}
