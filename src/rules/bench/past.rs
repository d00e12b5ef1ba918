//! What had come of a study before an image, built up from the images of a replay in the order of their arrival: the box's own
//! memory is that of today.
use crate::base::names::Uid;
use crate::dicom::head::Head;
use crate::rules::{Facts, StudySeen, remembered};
use std::collections::{BTreeMap, BTreeSet};

/// The studies that a replay has seen so far.
#[derive(Default)]
pub(super) struct Past {
    studies: BTreeMap<Uid, StudySeen>,
    /// SOP instances that have counted: one that is sent again does not.
    counted: BTreeSet<Uid>,
}

impl Past {
    /// What had come of the image's study; `None` for the first one of it.
    pub(super) fn before(&self, head: &Head) -> Option<StudySeen> {
        self.studies.get(&study(head)?).cloned()
    }

    /// An image has come, `length` bytes long.
    pub(super) fn came(&mut self, facts: &Facts, head: &Head, length: u64) {
        let Some(study) = study(head) else {
            return;
        };
        let counts = self.counted.insert(facts.sop_instance.clone());
        let seen = self.studies.entry(study).or_insert_with(|| StudySeen {
            first: facts.arrival,
            ..StudySeen::default()
        });
        seen.last = seen.last.max(facts.arrival);
        if counts {
            seen.instances += 1;
            seen.bytes = seen.bytes.saturating_add(length);
        }
        let values = remembered(head);
        seen.values.resize_with(values.len(), Default::default);
        for (first, own) in seen.values.iter_mut().zip(values) {
            if first.expose().is_empty() {
                *first = own;
            }
        }
    }
}

fn study(head: &Head) -> Option<Uid> {
    Uid::parse(&head.first(dicom_core::Tag(0x0020, 0x000d))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::facts;
    use crate::rules::words_tests::head_of;

    #[test]
    fn the_first_values_stay_and_what_is_sent_again_does_not_count() {
        let image = |patient, accession| {
            head_of(&[
                ("PatientID", patient),
                ("AccessionNumber", accession),
                ("StudyInstanceUID", "1.2.9"),
            ])
        };
        let of = |sop: &'static str| Facts {
            sop_instance: Uid::known(sop),
            ..facts()
        };
        let mut past = Past::default();
        let (first, second) = (image("1", ""), image("2", "A2"));
        assert_eq!(past.before(&first), None);
        past.came(&of("1.1"), &first, 500);
        let seen = past.before(&second).unwrap();
        assert_eq!((seen.instances, seen.bytes), (1, 500));
        past.came(&of("1.2"), &second, 700);
        past.came(&of("1.2"), &second, 700);
        let seen = past.before(&first).unwrap();
        assert_eq!((seen.instances, seen.bytes), (2, 1_200));
        let values: Vec<&str> = seen.values.iter().map(|value| value.expose().as_str()).collect();
        assert_eq!((values[0], values[2]), ("1", "A2"));
        let stranger = head_of(&[("PatientID", "1"), ("StudyInstanceUID", "1.2.10")]);
        assert_eq!(past.before(&stranger), None);
    }
}
