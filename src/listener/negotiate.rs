//! Which presentation contexts an acceptor takes: Verification, storage classes, and unknown classes where the source may.
use super::commitment;
use super::config::SourceConfig;
use crate::base::names::Uid;
use crate::dicom::association::{Context, Proposed};
use dicom_core::dictionary::{UidDictionary, UidDictionaryEntry};
use dicom_dictionary_std::sop_class::StandardSopClassDictionary;

/// PS3.4 A: the Verification SOP class.
pub const VERIFICATION: &str = "1.2.840.10008.1.1";

/// PS3.8 table 9-18.
const ABSTRACT_SYNTAX_NOT_SUPPORTED: u8 = 3;
const TRANSFER_SYNTAXES_NOT_SUPPORTED: u8 = 4;

/// What an abstract syntax is to this box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Verification,
    Storage,
    /// Not in the dictionary: private, or newer than it.
    Unknown,
    /// In the dictionary, and no storage class.
    Other,
}

impl Class {
    #[must_use]
    pub fn of(abstract_syntax: &Uid) -> Self {
        if abstract_syntax.as_str() == VERIFICATION {
            return Self::Verification;
        }
        match StandardSopClassDictionary.by_uid(abstract_syntax.as_str()) {
            None if abstract_syntax.as_str().starts_with("1.2.840.10008.") => standard_stranger(abstract_syntax),
            None => Self::Unknown,
            Some(entry) if is_storage(entry.name()) => Self::Storage,
            Some(_) => Self::Other,
        }
    }
}

/// All storage classes of PS3.4 B.5 and GG.3, and none other, have `Storage` in their names, but for these.
fn is_storage(name: &str) -> bool {
    name.contains("Storage") && !name.starts_with("Storage ") && !name.starts_with("Media Storage")
}

/// A UID below the standard's root that the dictionary lacks: a storage class of a newer edition stands under
/// 1.2.840.10008.5.1.4.1.1 (or .34, radiotherapy); anything else is some other service.
fn standard_stranger(uid: &Uid) -> Class {
    let storage = ["1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34."]
        .iter()
        .any(|root| uid.as_str().starts_with(root));
    if storage { Class::Unknown } else { Class::Other }
}

/// Answers every proposed context. The requestor's first transfer syntax is taken whatever it is: images are kept as they come.
#[must_use]
pub fn negotiate(proposed: &[Proposed], source: &SourceConfig) -> Vec<Context> {
    proposed.iter().map(|context| answer(context, source)).collect()
}

fn answer(context: &Proposed, source: &SourceConfig) -> Context {
    if let Some(context) = commitment::negotiate(context, source) {
        return context;
    }
    let taken = match Class::of(&context.abstract_syntax) {
        Class::Verification => true,
        Class::Storage | Class::Unknown if source.only_reports => false,
        Class::Storage => true,
        Class::Unknown => source.unknown_classes,
        Class::Other => false,
    };
    let result = match context.transfer_syntaxes.first() {
        _ if !taken => Err(ABSTRACT_SYNTAX_NOT_SUPPORTED),
        None => Err(TRANSFER_SYNTAXES_NOT_SUPPORTED),
        Some(syntax) => Ok(syntax.clone()),
    };
    Context {
        id: context.id,
        abstract_syntax: context.abstract_syntax.clone(),
        result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(uid: &str) -> Class {
        Class::of(&Uid::parse(uid).expect("a UID"))
    }

    #[test]
    fn every_storage_class_and_nothing_else_of_the_dictionary_counts_as_storage() {
        assert_eq!(class("1.2.840.10008.1.1"), Class::Verification);
        assert_eq!(class("1.2.840.10008.5.1.4.1.1.2"), Class::Storage);
        assert_eq!(class("1.2.840.10008.5.1.4.1.1.88.11"), Class::Storage);
        assert_eq!(class("1.2.840.10008.5.1.4.1.1.481.3"), Class::Storage);
        assert_eq!(class("1.2.840.10008.1.20.1"), Class::Other, "storage commitment");
        assert_eq!(class("1.2.840.10008.1.3.10"), Class::Other, "media storage directory");
        assert_eq!(class("1.2.840.10008.5.1.4.31"), Class::Other, "modality worklist");
        assert_eq!(class("1.2.840.10008.5.1.4.1.2.2.1"), Class::Other, "study root find");
        assert_eq!(
            class("1.2.840.10008.5.1.4.1.1.9999"),
            Class::Unknown,
            "newer than the dictionary"
        );
        assert_eq!(class("1.2.840.113619.4.2"), Class::Unknown, "private");
    }

    #[test]
    fn unknown_classes_are_taken_when_the_source_may() {
        let text = "name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"0.0.0.0/0\"]";
        let mut source: SourceConfig = toml::from_str(text).expect("parses");
        let uid = |text| Uid::parse(text).expect("a UID");
        let proposed = Proposed {
            id: 1,
            abstract_syntax: uid("1.2.840.113619.4.2"),
            transfer_syntaxes: vec![uid("1.2.840.113619.5.2"), uid("1.2.840.10008.1.2")],
        };
        assert_eq!(
            negotiate(std::slice::from_ref(&proposed), &source)[0].result,
            Ok(uid("1.2.840.113619.5.2"))
        );
        source.unknown_classes = false;
        assert_eq!(negotiate(std::slice::from_ref(&proposed), &source)[0].result, Err(3));
    }
}
