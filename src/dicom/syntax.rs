//! Transfer syntaxes: what the bytes of a data set look like.
use crate::base::names::Uid;

/// How elements are laid out. Unknown and private syntaxes count as explicit little endian (PS3.5 A.4),
/// except GE's private implicit big-endian pixel syntax 1.2.840.113619.5.2, which is implicit little endian outside the pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Layout {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

impl Layout {
    /// Whether elements carry their VR.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        self != Self::ImplicitLittle
    }

    #[must_use]
    pub fn is_big(self) -> bool {
        self == Self::ExplicitBig
    }

    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.is_big() {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.is_big() {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    pub(crate) fn put_u16(self, number: u16) -> [u8; 2] {
        if self.is_big() {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    pub(crate) fn put_u32(self, number: u32) -> [u8; 4] {
        if self.is_big() {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }
}

/// Papyrus 3 Implicit VR Little Endian, retired (PS3.6 table A-1).
const PAPYRUS_3: &str = "1.2.840.10008.1.20";

/// A transfer syntax with what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Syntax {
    pub uid: Uid,
    pub layout: Layout,
    pub deflated: bool,
}

impl Syntax {
    #[must_use]
    pub fn of(uid: &Uid) -> Self {
        let layout = match uid.as_str() {
            "1.2.840.10008.1.2" | PAPYRUS_3 | "1.2.840.113619.5.2" => Layout::ImplicitLittle,
            "1.2.840.10008.1.2.2" => Layout::ExplicitBig,
            _ => Layout::ExplicitLittle,
        };
        let deflated = matches!(
            uid.as_str(),
            "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205"
        );
        Self {
            uid: uid.clone(),
            layout,
            deflated,
        }
    }

    /// The same without the deflate around it.
    #[must_use]
    pub fn inflated(&self) -> Self {
        Self {
            deflated: false,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_follow_the_uid_and_unknown_ones_are_explicit_little_endian() {
        let table = [
            ("1.2.840.10008.1.2", Layout::ImplicitLittle, false),
            ("1.2.840.10008.1.2.1", Layout::ExplicitLittle, false),
            ("1.2.840.10008.1.2.1.99", Layout::ExplicitLittle, true),
            ("1.2.840.10008.1.2.2", Layout::ExplicitBig, false),
            ("1.2.840.10008.1.2.4.50", Layout::ExplicitLittle, false),
            ("1.2.840.113619.5.2", Layout::ImplicitLittle, false),
            ("1.2.840.10008.1.20", Layout::ImplicitLittle, false),
            ("1.2.3.4", Layout::ExplicitLittle, false),
        ];
        for (uid, layout, deflated) in table {
            let syntax = Syntax::of(&Uid::known(uid));
            assert_eq!((syntax.layout, syntax.deflated), (layout, deflated), "{uid}");
        }
    }
}
