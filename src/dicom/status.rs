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
pub fn meaning(status: u16) -> Meaning {
    match status {
        0x0000 => Meaning::Success,
        // Requested optional attributes are not supported, attribute list error, attribute value out of range, and all of
        // B000 coercion, B006 elements discarded, B007 data set does not match SOP class and their unassigned neighbours.
        0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => Meaning::Warning,
        // Out of resources, processing failure, resource limitation.
        0xA700..=0xA7FF | 0x0110 | 0x0213 => Meaning::Congested,
        // The word is about this instance: data set does not match SOP class, cannot understand, and the PS3.7 words for
        // no such attribute, invalid attribute value, no such object instance, invalid object instance, class and instance
        // conflict, SOP class not supported, duplicate invocation, unrecognised operation, mistyped argument.
        0xA800..=0xA9FF | 0xC000..=0xCFFF => Meaning::Instance,
        0x0105 | 0x0106 | 0x0112 | 0x0117 | 0x0119 | 0x0122 | 0x0210..=0x0212 => Meaning::Instance,
        0x0124 => Meaning::Unauthorised,
        0x0111 => Meaning::Duplicate,
        // Everything else, among it cancel (FE00) and pending (FF00, FF01), which C-STORE does not know.
        _ => Meaning::Unknown,
    }
}

/// C-STORE answers that this box gives.
pub const SUCCESS: u16 = 0x0000;
pub const OUT_OF_RESOURCES: u16 = 0xA700;
pub const DATA_SET_MISMATCH: u16 = 0xA900;
pub const CANNOT_UNDERSTAND: u16 = 0xC000;
pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
pub const INVALID_SOP_INSTANCE: u16 = 0x0117;
pub const UNRECOGNIZED_OPERATION: u16 = 0x0211;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_word_has_one_meaning() {
        let mut counts: HashMap<Meaning, usize> = HashMap::new();
        for status in 0..=u16::MAX {
            *counts.entry(meaning(status)).or_default() += 1;
        }
        let expected = [
            (Meaning::Success, 1),
            (Meaning::Warning, 3 + 4096),
            (Meaning::Congested, 256 + 2),
            (Meaning::Instance, 512 + 4096 + 9),
            (Meaning::Unauthorised, 1),
            (Meaning::Duplicate, 1),
            (Meaning::Unknown, 65_536 - 4099 - 258 - 4617 - 3),
        ];
        assert_eq!(counts, expected.into_iter().collect());
    }

    #[test]
    fn the_words_that_peers_say_are_classified_as_the_standard_means_them() {
        let table = [
            (Meaning::Success, vec![0x0000]),
            (
                Meaning::Warning,
                vec![0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF],
            ),
            (Meaning::Congested, vec![0x0110, 0x0213, 0xA700, 0xA701, 0xA7FF]),
            (Meaning::Instance, vec![0x0105, 0x0106, 0x0112, 0x0117, 0x0119, 0x0122]),
            (
                Meaning::Instance,
                vec![0x0210, 0x0211, 0x0212, 0xA800, 0xA900, 0xA9FF, 0xC000, 0xCFFF],
            ),
            (Meaning::Unauthorised, vec![0x0124]),
            (Meaning::Duplicate, vec![0x0111]),
            (
                Meaning::Unknown,
                vec![0x0002, 0x0120, 0xA6FF, 0xAA00, 0xD000, 0xFE00, 0xFF00, 0xFF01, 0xFFFF],
            ),
        ];
        for (expected, words) in table {
            for word in words {
                assert_eq!(meaning(word), expected, "{word:04X}");
            }
        }
    }

    #[test]
    fn no_answer_of_this_box_but_success_confirms() {
        for word in [
            OUT_OF_RESOURCES,
            DATA_SET_MISMATCH,
            CANNOT_UNDERSTAND,
            SOP_CLASS_NOT_SUPPORTED,
        ] {
            assert!(
                !matches!(meaning(word), Meaning::Success | Meaning::Warning),
                "{word:04X}"
            );
        }
        for word in [INVALID_SOP_INSTANCE, UNRECOGNIZED_OPERATION] {
            assert_eq!(meaning(word), Meaning::Instance);
        }
        assert_eq!(meaning(SUCCESS), Meaning::Success);
    }
}
