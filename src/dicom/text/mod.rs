//! Character sets: text of a data set to and from Unicode, ISO 2022 code extensions included (PS3.5 6.1.2, PS3.3 C.12.1.1.2).
//!
//! Reading never fails: what a set cannot say becomes U+FFFD and is reported as lossy. Writing never loses: what a set cannot
//! say is refused. Values are split after decoding, because second bytes of multi-byte characters look like delimiters.
//! `term` knows how the sets are called, rightly and wrongly; `repertoire` what their bytes mean.

pub mod name;
mod repertoire;
mod term;
#[cfg(test)]
mod tests;
pub mod value;

use encoding_rs::{Encoding, GB18030, GBK, UTF_8};
use repertoire::{Active, G0, G1};
use term::Term;

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
    /// A set of the field that DICOM has no term for (Shift-JIS, Big5): it can be read, and never be declared.
    Foreign(&'static Encoding),
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
    /// It was read more generously than the set allows: without the escape sequences it demands, with some it did not declare,
    /// with the typographic signs of Windows in the place of control characters, or as GB18030 where GBK is declared. Strict readers
    /// read something else.
    pub loose: bool,
}

/// A text that a character set cannot express.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the value cannot be written in the data set's character set")]
pub struct Unencodable;

impl Charset {
    /// From the values of (0008,0005). Unknown terms are kept as the default repertoire and reported by `is_known`.
    /// Misspelt terms of the field (`ISO IR 100`, `ISO-IR 192`, two terms with a comma) are understood; of several terms a
    /// multi-byte set without code extensions stands alone, whatever the others say.
    #[must_use]
    pub fn of(terms: &[String]) -> Self {
        let terms: Vec<&str> = terms.iter().flat_map(|term| term.split(',')).collect();
        let mut charset = Self::default();
        for (index, text) in terms.iter().enumerate() {
            match term::parse(text) {
                Term::Unknown => charset.unknown = true,
                Term::Whole(whole) => charset.whole = charset.whole.or(Some(whole)),
                Term::Set { set, extends } => {
                    if index == 0 {
                        charset.initial = set;
                    }
                    if terms.len() > 1 || extends {
                        charset.extensions.push(set);
                    }
                }
            }
        }
        charset.with_ascii()
    }

    /// ASCII can always be called back (PS3.3 C.12.1.1.2).
    fn with_ascii(mut self) -> Self {
        if !self.extensions.is_empty() && !self.extensions.contains(&Active::default()) {
            self.extensions.push(Active::default());
        }
        self
    }

    /// The set that a person names: terms parted by backslashes, or one of the field that DICOM has no term for
    /// (`SHIFT_JIS`, `EUC-JP`, `EUC-KR`, `BIG5`, `KOI8-R`, `WINDOWS-1250` to `-1258`). `None` when it is not known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if let Some(encoding) = term::foreign(name) {
            return Some(Self {
                whole: Some(Whole::Foreign(encoding)),
                ..Self::default()
            });
        }
        let terms: Vec<String> = name.split('\\').map(str::to_owned).collect();
        Some(Self::of(&terms)).filter(Self::is_known)
    }

    /// Names to suggest when one is not known.
    pub const NAMES: [&'static str; 25] = term::NAMES;

    /// UTF-8, as `ISO_IR 192` declares it.
    #[must_use]
    pub fn utf8() -> Self {
        Self {
            whole: Some(Whole::Utf8),
            ..Self::default()
        }
    }

    /// The values of (0008,0005) that declare this set rightly (PS3.3 C.12.1.1.2, Tables C.12-2 to C.12-5): none for ASCII;
    /// `None` when DICOM has no term for it. What unknown terms meant is not in them.
    #[must_use]
    pub fn terms(&self) -> Option<Vec<String>> {
        term::of(self.whole, self.initial, &self.extensions)
    }

    /// Whether `terms` declare this set in the standard's own words. ASCII alone may be called `ISO_IR 6`: it is no defined term,
    /// and nobody misunderstands it.
    #[must_use]
    pub fn is_said_by(&self, terms: &[String]) -> bool {
        let said = terms.iter().map(|text| text.trim_matches([' ', '\0']));
        let said: Vec<&str> = said
            .enumerate()
            .filter_map(|(index, text)| match text {
                "ISO_IR 6" | "ISO 2022 IR 6" => (index == 0).then_some(""),
                text => Some(text),
            })
            .collect();
        let said = if said == [""] { &[] } else { &said[..] };
        !self.unknown && self.terms().is_some_and(|terms| terms == said)
    }

    /// This set with what the escape sequences in `bytes` call, for those who forgot to declare it.
    #[must_use]
    pub fn extended(&self, bytes: &[u8]) -> Self {
        let called = repertoire::called(bytes);
        if called.is_empty() {
            return self.clone();
        }
        let mut charset = match self.whole {
            Some(_) => Self::default(),
            None => self.clone(),
        };
        if charset.extensions.is_empty() {
            charset.extensions.push(charset.initial);
        }
        for set in called {
            if !charset.extensions.contains(&set) {
                charset.extensions.push(set);
            }
        }
        charset.with_ascii()
    }

    /// Whether its letters are ASCII and Latin ones only, so that of the bytes of another set it makes letters and signs side by side.
    #[must_use]
    pub fn is_latin(&self) -> bool {
        let is_latin = |set: &Active| {
            set.g0 == G0::Ascii && matches!(set.g1, G1::None | G1::Single(100 | 101 | 109 | 110 | 148 | 203))
        };
        self.whole.is_none() && is_latin(&self.initial) && self.extensions.iter().all(is_latin)
    }

    /// Whether `letter` is of the script that one of its single-byte sets is for: Cyrillic, Greek, Arabic, Hebrew or Thai.
    #[must_use]
    pub fn is_of_its_script(&self, letter: char) -> bool {
        let is_own = |set: &Active| match set.g1 {
            G1::Single(144) => matches!(letter, '\u{400}'..='\u{52F}'),
            G1::Single(126) => matches!(letter, '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}'),
            G1::Single(127) => matches!(letter, '\u{600}'..='\u{6FF}' | '\u{750}'..='\u{77F}'),
            G1::Single(138) => matches!(letter, '\u{590}'..='\u{5FF}'),
            G1::Single(166) => matches!(letter, '\u{E00}'..='\u{E7F}'),
            G1::None | G1::Single(_) | G1::Korean | G1::Chinese => false,
        };
        is_own(&self.initial) || self.extensions.iter().any(is_own)
    }

    /// From the bytes of (0008,0005).
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        // What most images declare, without a list of terms: this is asked of every text that is read.
        match bytes {
            b"ISO_IR 100" => {
                let initial = repertoire::of_number(100).unwrap_or_default();
                return Self {
                    initial,
                    ..Self::default()
                };
            }
            b"ISO_IR 192" => {
                let whole = Some(Whole::Utf8);
                return Self {
                    whole,
                    ..Self::default()
                };
            }
            _ => {}
        }
        Self::of(&Self::default().decode(bytes, Form::Values).values)
    }

    /// Whether all terms are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.unknown
    }

    /// Whether two bytes make a character, in this set or in one that it calls.
    #[must_use]
    pub fn is_multi_byte(&self) -> bool {
        let is_wide = |set: &Active| matches!(repertoire::number_of(*set), 58 | 87 | 149 | 159);
        self.is_whole() || is_wide(&self.initial) || self.extensions.iter().any(is_wide)
    }

    /// Whether it is a multi-byte set without code extensions.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
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
            // The decoder of GBK is that of GB18030: it reads four bytes and a euro sign that no reader of GBK knows.
            let loose = whole == Whole::Gbk && !lossy && self.encode(&text, form).is_err();
            return Decoded {
                values: split(&text, form),
                lossy,
                loose,
            };
        }
        repertoire::decode(bytes, self.initial, &self.extensions, self.fallback(), form)
    }

    /// Encodes one value, or several joined by backslashes. Never lossy.
    ///
    /// # Errors
    /// `Unencodable`.
    pub fn encode(&self, text: &str, form: Form) -> Result<Vec<u8>, Unencodable> {
        if let Some(whole) = self.whole {
            let (bytes, _, failed) = whole.encoding().encode(text);
            // The encoder's euro sign in one byte is Microsoft's, not GBK's.
            let is_foreign = whole == Whole::Gbk && text.contains('€');
            return if failed || is_foreign {
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
            Self::Foreign(encoding) => encoding,
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
