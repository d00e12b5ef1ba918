//! Pseudonyms by a site's secret key: the same value gives the same pseudonym on every box with the key, and nobody without
//! the key can tell which value it was.
//!
//! Promises: a pseudonym is its own pseudonym (it carries a mark that only the key can make, and is recognised by it), so
//! doing it twice is doing it once; it is of a fixed length that fits its VR. Used by the words of `uid` and `privacy`. Knows
//! no file; never prints the key.
use std::fmt;

/// A secret key. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

impl Key {
    /// From a secret of any length; whoever reads it judges whether it is long enough.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::derive_key(
            "Waystation 2026-11-22 site key for pseudonyms",
            secret,
        ))
    }

    /// Tells keys apart without telling the key.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 8] {
        self.hash("fingerprint", &[])[..8].try_into().unwrap_or_default()
    }

    /// The UID in place of `uid`: below `root`, or below 2.25 as a UUID's decimal number (PS3.5 B.2). Standard UIDs, empty
    /// ones and our own stay as they are. At most 64 characters when the root has at most `ROOT_MAX`.
    #[must_use]
    pub fn uid(&self, uid: &str, root: Option<&str>) -> String {
        if uid.is_empty() || is_standard(uid) || self.is_own_uid(uid, root) {
            return uid.to_owned();
        }
        let body = self.hash("uid", uid.as_bytes());
        let mut number = u128::from_be_bytes(body[..16].try_into().unwrap_or_default());
        // A UUID of version 8 and the standard's variant; 82 bits of the hash and a mark of 40 are free to us.
        number = number & !VERSION_MASK & !MARK_MASK | VERSION;
        number |= u128::from(self.mark(number, root));
        format!("{}.{number}", root.unwrap_or(UUID_ROOT))
    }

    fn is_own_uid(&self, uid: &str, root: Option<&str>) -> bool {
        let number = uid
            .strip_prefix(root.unwrap_or(UUID_ROOT))
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(number) = number.and_then(|digits| digits.parse::<u128>().ok()) else {
            return false;
        };
        let marked = number & MARK_MASK;
        number & VERSION_MASK == VERSION && marked == u128::from(self.mark(number & !MARK_MASK, root))
    }

    fn mark(&self, number: u128, root: Option<&str>) -> u64 {
        let said = [&number.to_be_bytes()[..], root.unwrap_or_default().as_bytes()].concat();
        let hash = self.hash("uid mark", &said);
        // Five of its bytes.
        u64::from_be_bytes(hash[..8].try_into().unwrap_or_default()) >> 24
    }

    /// The text of 16 capital letters and digits in place of `value`; its blanks at the ends do not count, and an empty value stays.
    #[must_use]
    pub fn text(&self, value: &str) -> String {
        let value = value.trim_matches([' ', '\0']);
        if value.is_empty() || self.is_own_text(value) {
            return value.to_owned();
        }
        let body = letters(&self.hash("text", value.as_bytes()), BODY);
        let mark = letters(&self.hash("text mark", body.as_bytes()), MARK);
        body + mark.as_str()
    }

    fn is_own_text(&self, value: &str) -> bool {
        let Some((body, mark)) = value.split_at_checked(BODY) else {
            return false;
        };
        body.bytes().chain(mark.bytes()).all(|byte| LETTERS.contains(&byte))
            && letters(&self.hash("text mark", body.as_bytes()), MARK) == mark
    }

    /// A number of days from `least` to `most` for a patient or a study.
    #[must_use]
    pub fn days(&self, whose: &str, least: u32, most: u32) -> u32 {
        let hash = self.hash("days", whose.as_bytes());
        let number = u64::from_be_bytes(hash[..8].try_into().unwrap_or_default());
        let span = u64::from(most.saturating_sub(least)) + 1;
        // Below the span, which came from 32 bits; 2^64 is so much longer that no day is likelier than another.
        least + (number % span) as u32
    }

    /// A word that only this key can write, which says that something was done to an image.
    #[must_use]
    pub fn seal(&self, what: &str) -> String {
        letters(&self.hash("seal", what.as_bytes()), BODY + MARK)
    }

    fn hash(&self, purpose: &str, value: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes());
        hasher.update(&[0]);
        hasher.update(value);
        *hasher.finalize().as_bytes()
    }
}

/// UIDs that the standard gave: classes, transfer syntaxes, coding schemes, well-known frames of reference. They name no one.
#[must_use]
pub fn is_standard(uid: &str) -> bool {
    uid.starts_with("1.2.840.10008.")
}

fn letters(hash: &[u8; 32], count: usize) -> String {
    hash[..count]
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect()
}

const UUID_ROOT: &str = "2.25";
/// What a root may have, so that a point and 39 digits fit behind it.
pub const ROOT_MAX: usize = 24;
/// RFC 9562: version 8 in bits 76 to 79, the variant in bits 62 and 63.
const VERSION_MASK: u128 = 0xF << 76 | 0b11 << 62;
const VERSION: u128 = 0x8 << 76 | 0b10 << 62;
const MARK_MASK: u128 = (1 << 40) - 1;
/// Without I, L, O and U: nobody reads them for a digit, or sees a word.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 55 bits of the value's hash, 25 of the mark: 16 letters, which even an SH holds.
const BODY: usize = 11;
const MARK: usize = 5;

const _: () = assert!(ROOT_MAX + 1 + 39 == 64 && VERSION_MASK & MARK_MASK == 0);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key() -> Key {
        Key::of(b"0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn a_pseudonym_is_of_the_key_and_of_the_value() {
        let other = Key::of(b"another secret of thirty-two bytes");
        assert_eq!(key().uid("1.2.3", None), key().uid("1.2.3", None));
        assert_ne!(key().uid("1.2.3", None), key().uid("1.2.4", None));
        assert_ne!(key().uid("1.2.3", None), other.uid("1.2.3", None));
        assert_ne!(key().text("4711"), other.text("4711"));
        assert_eq!(key().text(" 4711 "), key().text("4711"));
        assert_ne!(key().text("04711"), key().text("4711"));
        assert_ne!(key().seal("a"), other.seal("a"));
        assert_eq!(format!("{:?}", key()), "<key>");
    }

    #[test]
    fn what_names_no_one_stays() {
        for uid in ["", "1.2.840.10008.5.1.4.1.1.2"] {
            assert_eq!(key().uid(uid, None), uid);
        }
        assert_eq!(key().text("  "), "");
    }

    #[test]
    fn a_thousand_values_have_a_thousand_pseudonyms_and_spread_over_the_days() {
        let texts: BTreeSet<String> = (0..1_000).map(|n| key().text(&n.to_string())).collect();
        let uids: BTreeSet<String> = (0..1_000).map(|n| key().uid(&format!("1.2.{n}"), None)).collect();
        let days: BTreeSet<u32> = (0..1_000).map(|n| key().days(&n.to_string(), 1, 10)).collect();
        assert_eq!((texts.len(), uids.len()), (1_000, 1_000));
        assert_eq!(days, (1..=10).collect());
        assert_eq!(key().days("x", 5, 5), 5);
    }

    #[test]
    fn the_uuid_is_a_valid_one() {
        let uid = key().uid("1.2.3", None);
        let number: u128 = uid.strip_prefix("2.25.").unwrap().parse().unwrap();
        let text = format!("{number:032x}");
        assert_eq!(&text[12..13], "8");
        assert!("89ab".contains(&text[16..17]));
    }

    proptest! {
        #[test]
        fn twice_is_once_and_it_fits(value in "\\PC{0,80}", uid in "[0-9.]{1,64}", root in "[1-9](\\.[1-9]){0,11}") {
            let text = key().text(&value);
            prop_assert_eq!(key().text(&text), text.clone());
            prop_assert!(text.len() == 16 || text.is_empty());
            for root in [None, Some(root.as_str())] {
                let once = key().uid(&uid, root);
                prop_assert!(once.len() <= 64 && once.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
                prop_assert_eq!(key().uid(&once, root), once);
            }
        }

        #[test]
        fn nobody_elses_value_is_taken_for_a_pseudonym(value in "[0-9A-Z]{16}", number in any::<u128>()) {
            prop_assert!(key().text(&value) != value);
            let uid = format!("2.25.{number}");
            prop_assert!(key().uid(&uid, None) != uid);
        }
    }
}
