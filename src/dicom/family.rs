//! Families of SOP classes (PS3.4 B.5, and the retired ones of earlier editions): what a rule means by "ultrasound".
use crate::base::names::Uid;

/// Below `1.2.840.10008.5.1.4.1.1.`: the exact classes, or with a dot at the end all classes below.
const FAMILIES: [(&str, &[&str]); 21] = [
    ("CR", &["1"]),
    ("DX", &["1.1", "1.1.1"]),
    // Digital mammography, breast tomosynthesis and breast projection, for presentation and for processing.
    ("MG", &["1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"]),
    ("IO", &["1.3", "1.3.1"]),
    ("CT", &["2", "2.1", "2.2"]),
    ("US", &["3", "3.1", "6", "6.1", "6.2", "6.3"]),
    ("MR", &["4", "4.1", "4.2", "4.3", "4.4"]),
    ("NM", &["5", "20"]),
    ("SC", &["7", "7.1", "7.2", "7.3", "7.4"]),
    ("WAVEFORM", &["9.", "9"]),
    ("PR", &["11."]),
    ("XA", &["12.1", "12.1.1", "12.3", "13.1.1"]),
    ("RF", &["12.2", "12.2.1", "13.1.2"]),
    ("SEG", &["66.4", "66.5", "66.7", "66.8"]),
    ("REG", &["66.1", "66.3"]),
    ("VL", &["77.1."]),
    ("SR", &["88."]),
    ("KO", &["88.59"]),
    ("DOC", &["104."]),
    ("PT", &["128", "128.1", "130"]),
    ("RT", &["481."]),
];

const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// The names of all families.
#[must_use]
pub fn names() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// Whether a class belongs to a family; `None` when there is no such family. Key Object Selection is `KO` and not `SR`.
#[must_use]
pub fn is(class: &Uid, family: &str) -> Option<bool> {
    let (name, members) = FAMILIES.iter().find(|(name, _)| *name == family)?;
    let Some(rest) = class.as_str().strip_prefix(STORAGE) else {
        return Some(false);
    };
    let belongs = |member: &&str| rest == *member || member.ends_with('.') && rest.starts_with(*member);
    Some(members.iter().any(belongs) && !(*name == "SR" && rest == "88.59"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::dictionary::{UidDictionary, UidDictionaryEntry};
    use dicom_dictionary_std::StandardSopClassDictionary;

    fn of(uid: &str) -> Vec<&'static str> {
        let uid = Uid::parse(uid).unwrap();
        names()
            .into_iter()
            .filter(|name| is(&uid, name) == Some(true))
            .collect()
    }

    #[test]
    fn classes_belong_to_the_families_that_people_mean() {
        let table = [
            ("1.2.840.10008.5.1.4.1.1.2", "CT"),
            ("1.2.840.10008.5.1.4.1.1.2.1", "CT"),
            ("1.2.840.10008.5.1.4.1.1.1.2.1", "MG"),
            ("1.2.840.10008.5.1.4.1.1.13.1.3", "MG"),
            ("1.2.840.10008.5.1.4.1.1.3.1", "US"),
            ("1.2.840.10008.5.1.4.1.1.88.67", "SR"),
            ("1.2.840.10008.5.1.4.1.1.88.59", "KO"),
            ("1.2.840.10008.5.1.4.1.1.104.1", "DOC"),
            ("1.2.840.10008.5.1.4.1.1.481.3", "RT"),
            ("1.2.840.10008.5.1.4.1.1.128", "PT"),
        ];
        for (uid, family) in table {
            assert_eq!(of(uid), [family], "{uid}");
        }
        assert_eq!(is(&Uid::known("1.2.840.10008.5.1.4.1.1.20"), "CT"), Some(false));
        assert_eq!(of("1.2.840.10008.1.1"), [""; 0]);
        assert_eq!(is(&Uid::known("1.2.3"), "XX"), None);
    }

    /// The dictionary's own names as a second source.
    #[test]
    fn the_dictionary_names_the_members_as_the_families_do() {
        let words: [(&str, &[&str]); 14] = [
            ("CR", &["Computed Radiography"]),
            ("DX", &["Digital X-Ray Image"]),
            ("MG", &["Mammography", "Breast"]),
            ("IO", &["Intra-Oral"]),
            ("CT", &["CT Image"]),
            ("US", &["Ultrasound", "US ", "Photoacoustic"]),
            ("MR", &["MR "]),
            ("NM", &["Nuclear Medicine"]),
            ("SC", &["Secondary Capture"]),
            ("XA", &["Angiographic", "XA "]),
            ("RF", &["Radiofluoroscopic", "Craniofacial", "XRF"]),
            ("SEG", &["Segmentation"]),
            ("REG", &["Registration"]),
            ("PT", &["Positron", "PET"]),
        ];
        let mut looked = 0;
        for (family, words) in words {
            let (_, members) = FAMILIES.iter().find(|(name, _)| *name == family).unwrap();
            for member in *members {
                if let Some(entry) = StandardSopClassDictionary.by_uid(&format!("{STORAGE}{member}")) {
                    looked += 1;
                    let name = entry.name();
                    assert!(
                        words.iter().any(|word| name.contains(word)),
                        "{family}: {member} is {name}"
                    );
                }
            }
        }
        assert!(looked > 40, "{looked}");
    }
}
