//! What rules may know of the study that an instance belongs to: the values that came first, and how much has come. Given with
//! the facts, so that the same facts give the same decision; the box notices when a parallel arrival made them old.
use crate::base::clock::Wall;
use crate::base::phi::Phi;
use crate::dicom::head::Head;
use crate::dicom::path::Path;

/// What had been seen of the study before this instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StudySeen {
    /// In the places of `REMEMBERED`; `""` for none yet.
    pub values: Vec<Phi<String>>,
    pub first: Wall,
    pub last: Wall,
    pub instances: u64,
    pub bytes: u64,
}

/// The elements whose first value of a study is remembered, as they arrived.
pub const REMEMBERED: [&str; 8] = [
    "PatientID",
    "IssuerOfPatientID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID",
    "PatientName",
    "PatientBirthDate",
    "StudyID",
    "StudyDate",
];

/// This instance's own values, in the places of `REMEMBERED`.
#[must_use]
pub fn remembered(head: &Head) -> Vec<Phi<String>> {
    let value = |text: &str| own(head, text).map(Phi::new).unwrap_or_default();
    REMEMBERED.iter().map(|text| value(text)).collect()
}

/// The first value of an element as it arrived, without its padding; `None` when it is absent or empty.
pub(super) fn own(head: &Head, text: &str) -> Option<String> {
    // All texts are of `REMEMBERED`, which the tests parse.
    let path = Path::parse(text).ok()?;
    let first = head.text(&path)?.into_iter().next()?;
    let first = first.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

impl StudySeen {
    /// The study's first value of an element of `REMEMBERED`; `None` when none has come.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let at = REMEMBERED.iter().position(|known| *known == name)?;
        let text = self.values.get(at)?.expose().as_str();
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_can_be_read() {
        for text in REMEMBERED {
            assert!(Path::parse(text).is_ok(), "{text}");
        }
        let seen = StudySeen {
            values: vec![Phi::new("123".to_owned()), Phi::default()],
            ..StudySeen::default()
        };
        assert_eq!(seen.value("PatientID"), Some("123"));
        assert_eq!((seen.value("IssuerOfPatientID"), seen.value("StudyDate")), (None, None));
    }
}
