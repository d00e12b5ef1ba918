//! By what an instance can be traced: patient id, accession number and UIDs, as they came and as a destination gets them. The spool
//! stores keyed hashes of them and nothing else. Called by `ingest`, and by `custody` for what lies in the spool already.
use crate::base::phi::Phi;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::path::Selector;
use crate::spool::{By, Trait};
use dicom_core::Tag;

const PLACES: [(Tag, By); 5] = [
    (Tag(0x0010, 0x0020), By::Patient),
    (Tag(0x0008, 0x0050), By::Accession),
    (Tag(0x0020, 0x000d), By::Study),
    (Tag(0x0020, 0x000e), By::Series),
    (Tag(0x0008, 0x0018), By::Sop),
];

/// Those of the head as it came, and those that the plans write.
#[must_use]
pub fn traits<'a>(head: &Head, plans: impl Iterator<Item = &'a Plan>) -> Vec<Trait> {
    let mut found = Vec::with_capacity(PLACES.len());
    for (tag, by) in PLACES {
        add(&mut found, by, &head.first(tag));
    }
    add_written(&mut found, plans);
    found
}

/// Adds those that the plans write.
pub(super) fn add_written<'a>(found: &mut Vec<Trait>, plans: impl Iterator<Item = &'a Plan>) {
    for edit in plans.flat_map(|plan| &plan.edits) {
        if let Edit::Set { path, value, .. } = edit
            && path.items.is_empty()
            && let Selector::Tag(tag) = &path.leaf
            && let Some((_, by)) = PLACES.iter().find(|(place, _)| place == tag)
        {
            add(found, *by, &String::from_utf8_lossy(value));
        }
    }
}

fn add(found: &mut Vec<Trait>, by: By, value: &str) {
    let value = value.trim_matches([' ', '\0']);
    let known = |one: &Trait| one.by == by && one.value.expose() == value;
    if !value.is_empty() && !found.iter().any(known) {
        found.push(Trait {
            by,
            value: Phi::new(value.to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::Uid;
    use crate::dicom::path::Path;
    use crate::dicom::syntax::Syntax;
    use dicom_core::VR;

    #[test]
    fn what_came_and_what_is_written_can_both_be_asked_for() {
        // (0010,0020) LO "MRN 7 " and (0020,000D) UI "1.2".
        let data = b"\x10\x00\x20\x00LO\x06\x00MRN 7 \x20\x00\x0d\x00UI\x04\x001.2\0";
        let head = Head::scan(Syntax::of(&Uid::known("1.2.840.10008.1.2.1")), data).unwrap();
        let set = |tag, value: &[u8]| Edit::Set {
            path: Path {
                items: Vec::new(),
                leaf: Selector::Tag(tag),
            },
            vr: VR::LO,
            value: value.to_vec(),
        };
        let plan = Plan {
            edits: vec![set(Tag(0x0010, 0x0020), b"NRT-7 "), set(Tag(0x0010, 0x0010), b"DOE ")],
            stamp: None,
        };
        let found = traits(&head, [&plan, &plan].into_iter());
        let found: Vec<(By, &str)> = found.iter().map(|one| (one.by, one.value.expose().as_str())).collect();
        let wanted = [(By::Patient, "MRN 7"), (By::Study, "1.2"), (By::Patient, "NRT-7")];
        assert_eq!(found, wanted);
    }
}
