//! What rules may know of the study that an instance belongs to: the values that came first, and how much has come. Given with
//! the facts, so that the same facts give the same decision; the box notices when a parallel arrival made them old.
//!
//! First values never change once they stand, and an instance that gave one has it itself. So a replay with what is known today
//! compares as the decision of the day did; only the sizes have grown.
use super::lint::unknown;
use crate::base::clock::Wall;
use crate::base::phi::Phi;
use crate::dicom::head::Head;
use crate::dicom::head::read::trimmed;
use crate::dicom::path::Path;
use std::collections::BTreeMap;

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

/// The first value of an element as it arrived, without its padding; `None` when it is absent or empty. One that cannot be read
/// ends in a mark of its bytes, for the signs in its place are the same whatever they were: see `is_same`.
pub(super) fn own(head: &Head, text: &str) -> Option<String> {
    // All texts are of `REMEMBERED`, which the tests parse.
    let path = Path::parse(text).ok()?;
    let node = head.find(&path)?;
    let first = head.text(&path)?.into_iter().next()?;
    let first = first.trim();
    if first.contains(UNREAD) {
        let bytes = blake3::hash(trimmed(head.raw(node))).to_hex();
        return Some(format!("{first}{UNREAD}{}", &bytes[..MARK]));
    }
    (!first.is_empty()).then(|| first.to_owned())
}

/// Whether two values of `own` are one. Those that cannot be read are compared by their bytes, so that the set that was declared
/// for them makes no difference; one that can be read and one that cannot are two.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    match (marked(one), marked(other)) {
        (Some((_, one)), Some((_, other))) => one == other,
        (_, _) => one == other,
    }
}

/// A value of `own` as rules read it in the image.
pub(super) fn readable(value: &str) -> &str {
    marked(value).map_or(value, |(text, _)| text)
}

/// Text and mark of a value that cannot be read.
fn marked(value: &str) -> Option<(&str, &str)> {
    let is_mark = |mark: &str| mark.len() == MARK && mark.bytes().all(|digit| digit.is_ascii_hexdigit());
    value.rsplit_once(UNREAD).filter(|(_, mark)| is_mark(mark))
}

/// What stands in a text for bytes that cannot be read.
const UNREAD: char = '\u{FFFD}';
/// Digits of the mark.
const MARK: usize = 16;

impl StudySeen {
    /// The study's first value of an element of `REMEMBERED`; `None` when none has come.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let at = REMEMBERED.iter().position(|known| *known == name)?;
        let text = self.values.get(at)?.expose().as_str();
        (!text.is_empty()).then_some(text)
    }
}

/// What a fixture says of the study before its instance: first values by their names in `REMEMBERED`, `instances` and `bytes`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, toml::Value>")]
pub struct Earlier(StudySeen);

impl From<Earlier> for StudySeen {
    fn from(earlier: Earlier) -> Self {
        earlier.0
    }
}

impl TryFrom<BTreeMap<String, toml::Value>> for Earlier {
    type Error = String;

    fn try_from(said: BTreeMap<String, toml::Value>) -> Result<Self, String> {
        let mut seen = StudySeen {
            values: vec![Phi::default(); REMEMBERED.len()],
            ..StudySeen::default()
        };
        for (name, value) in said {
            let number = || value.as_integer().and_then(|number| u64::try_from(number).ok());
            match (name.as_str(), REMEMBERED.iter().position(|known| *known == name)) {
                (_, Some(at)) => {
                    let text = value.as_str().ok_or_else(|| format!("study.{name} is a text"))?;
                    seen.values[at] = Phi::new(text.to_owned());
                }
                ("instances", None) => seen.instances = number().ok_or("study.instances is a number")?,
                ("bytes", None) => seen.bytes = number().ok_or("study.bytes is a number")?,
                (_, None) => {
                    let names = REMEMBERED.into_iter().chain(["instances", "bytes"]);
                    return Err(unknown("name in study", &name, names));
                }
            }
        }
        Ok(Self(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixture_says_what_had_come_of_the_study() {
        let read = |text: &str| toml::from_str::<Earlier>(text).map(StudySeen::from);
        let seen = read("PatientID = \"123\"\ninstances = 3\nbytes = 9").unwrap();
        assert_eq!(
            (seen.value("PatientID"), seen.instances, seen.bytes),
            (Some("123"), 3, 9)
        );
        let wrong = read("PatientId = \"1\"").unwrap_err().to_string();
        assert!(wrong.contains("did you mean `PatientID`"), "{wrong}");
        assert!(read("instances = -1").is_err() && read("PatientID = 1").is_err());
    }

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
