//! The words of Storage Commitment Push Model (PS3.4 Annex J): action and event information, read and written whole.
//! Read through the bounded head scanner, so that a hostile one costs at most a head; never prints a value.
use super::head::{Head, HeadEnd};
use super::syntax::{Layout, Syntax};
use crate::base::names::{AeTitle, Uid};
use dicom_core::Tag;
use std::collections::HashSet;

/// The SOP class, and its one well-known instance.
pub const CLASS: &str = "1.2.840.10008.1.20.1";
pub const INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// Action Type 1: request storage commitment. Event Type 1: all committed; 2: failures exist.
pub const REQUEST: u16 = 1;
pub const ALL_COMMITTED: u16 = 1;
pub const FAILURES_EXIST: u16 = 2;

/// Transfer syntaxes in which these data sets are read and written, the preferred first.
pub const SYNTAXES: [&str; 2] = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"];

/// References of one request. A longer list is refused (0213): its data set would not fit into a head either.
pub const REFERENCES_MAX: usize = 20_000;

/// Bytes of one data set of these.
pub const DATA_SET_MAX: usize = crate::base::limits::HEAD_MAX;

/// Failure Reason (0008,1197), PS3.3 C.14.1.1, and the status words of PS3.7 that mean the same.
pub const PROCESSING_FAILURE: u16 = 0x0110;
pub const NO_SUCH_INSTANCE: u16 = 0x0112;
pub const NO_SUCH_EVENT_TYPE: u16 = 0x0113;
pub const INVALID_ARGUMENT: u16 = 0x0115;
pub const CLASS_CONFLICT: u16 = 0x0119;
pub const NO_SUCH_ACTION: u16 = 0x0123;
pub const NOT_AUTHORISED: u16 = 0x0124;
pub const DUPLICATE_TRANSACTION: u16 = 0x0131;
pub const NO_SUCH_CLASS: u16 = 0x0118;
pub const RESOURCE_LIMITATION: u16 = 0x0213;

/// One instance that is spoken of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reference {
    pub class: Uid,
    pub instance: Uid,
}

/// The action information of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    pub transaction: Uid,
    /// Never empty, each once.
    pub references: Vec<Reference>,
}

/// The event information of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub transaction: Uid,
    pub committed: Vec<Reference>,
    pub failed: Vec<(Reference, u16)>,
    /// Where the committed instances can be retrieved.
    pub retrieve_ae: Option<AeTitle>,
}

/// Why such a data set cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    #[error("the data set cannot be read")]
    Unreadable,
    #[error("{0} is missing or not valid")]
    Missing(&'static str),
    #[error("more references than {REFERENCES_MAX}")]
    TooMany,
}

impl Fault {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Unreadable => PROCESSING_FAILURE,
            Self::Missing(_) => INVALID_ARGUMENT,
            Self::TooMany => RESOURCE_LIMITATION,
        }
    }

    /// The constant words of the Error Comment.
    #[must_use]
    pub fn comment(self) -> &'static str {
        match self {
            Self::Unreadable => "data set cannot be read",
            Self::Missing(what) => what,
            Self::TooMany => "more than 20000 references",
        }
    }
}

impl Report {
    /// The Event Type ID.
    #[must_use]
    pub fn event_type(&self) -> u16 {
        if self.failed.is_empty() {
            ALL_COMMITTED
        } else {
            FAILURES_EXIST
        }
    }
}

/// Reads the action information of an N-ACTION in this transfer syntax.
///
/// # Errors
/// See `Fault`.
pub fn read_action(syntax: &Uid, bytes: &[u8]) -> Result<Action, Fault> {
    let head = scan(syntax, bytes)?;
    let transaction = transaction(&head)?;
    let items = items(&head, REFERENCED_SEQUENCE)?.ok_or(Fault::Missing("ReferencedSOPSequence"))?;
    if items.is_empty() {
        return Err(Fault::Missing("ReferencedSOPSequence"));
    }
    let mut seen = HashSet::new();
    let mut references = Vec::with_capacity(items.len());
    for item in items {
        let reference = reference(&head, item)?;
        if seen.insert(reference.clone()) {
            references.push(reference);
        }
    }
    Ok(Action {
        transaction,
        references,
    })
}

/// Reads the event information of an N-EVENT-REPORT. An item without Failure Reason has failed all the same (0110).
///
/// # Errors
/// See `Fault`.
pub fn read_report(syntax: &Uid, bytes: &[u8]) -> Result<Report, Fault> {
    let head = scan(syntax, bytes)?;
    let transaction = transaction(&head)?;
    let (committed, failed) = (items(&head, REFERENCED_SEQUENCE)?, items(&head, FAILED_SEQUENCE)?);
    if committed.is_none() && failed.is_none() {
        return Err(Fault::Missing("ReferencedSOPSequence"));
    }
    let committed = committed.unwrap_or_default().into_iter();
    let failed = failed.unwrap_or_default().into_iter();
    let with_reason = |item| {
        let reason = element(&head, Some(item), FAILURE_REASON);
        let reason = reason.and_then(|node| head.raw(node).first_chunk().copied());
        let reason = reason.map_or(PROCESSING_FAILURE, |bytes| head.syntax.layout.u16(bytes));
        Ok((reference(&head, item)?, reason))
    };
    Ok(Report {
        transaction,
        committed: committed.map(|item| reference(&head, item)).collect::<Result<_, _>>()?,
        failed: failed.map(with_reason).collect::<Result<_, _>>()?,
        retrieve_ae: None,
    })
}

fn scan(syntax: &Uid, bytes: &[u8]) -> Result<Head, Fault> {
    let head = Head::scan(Syntax::of(syntax), bytes).map_err(|_| Fault::Unreadable)?;
    match head.end {
        HeadEnd::DataSet => Ok(head),
        HeadEnd::Pixels | HeadEnd::Cap => Err(Fault::TooMany),
    }
}

fn transaction(head: &Head) -> Result<Uid, Fault> {
    uid(head, None, TRANSACTION_UID).ok_or(Fault::Missing("TransactionUID"))
}

fn items(head: &Head, tag: Tag) -> Result<Option<Vec<usize>>, Fault> {
    let Some(sequence) = element(head, None, tag) else {
        return Ok(None);
    };
    let items: Vec<usize> = head.children(Some(sequence)).collect();
    if items.len() > REFERENCES_MAX {
        return Err(Fault::TooMany);
    }
    Ok(Some(items))
}

fn reference(head: &Head, item: usize) -> Result<Reference, Fault> {
    Ok(Reference {
        class: uid(head, Some(item), REFERENCED_CLASS).ok_or(Fault::Missing("ReferencedSOPClassUID"))?,
        instance: uid(head, Some(item), REFERENCED_INSTANCE).ok_or(Fault::Missing("ReferencedSOPInstanceUID"))?,
    })
}

fn element(head: &Head, parent: Option<usize>, tag: Tag) -> Option<usize> {
    head.children(parent).find(|node| head.nodes[*node].tag == tag)
}

fn uid(head: &Head, parent: Option<usize>, tag: Tag) -> Option<Uid> {
    let node = element(head, parent, tag)?;
    Uid::parse(std::str::from_utf8(head.raw(node)).ok()?).ok()
}

/// The bytes of action information.
#[must_use]
pub fn write_action(syntax: &Uid, action: &Action) -> Vec<u8> {
    let layout = Syntax::of(syntax).layout;
    let mut out = Vec::new();
    let references: Vec<(&Reference, Option<u16>)> = action.references.iter().map(|r| (r, None)).collect();
    text(&mut out, layout, TRANSACTION_UID, *b"UI", action.transaction.as_str());
    sequence(&mut out, layout, REFERENCED_SEQUENCE, &references);
    out
}

/// The bytes of event information.
#[must_use]
pub fn write_report(syntax: &Uid, report: &Report) -> Vec<u8> {
    let layout = Syntax::of(syntax).layout;
    let mut out = Vec::new();
    if let Some(title) = &report.retrieve_ae {
        text(&mut out, layout, RETRIEVE_AE, *b"AE", title.as_str());
    }
    text(&mut out, layout, TRANSACTION_UID, *b"UI", report.transaction.as_str());
    let failed: Vec<(&Reference, Option<u16>)> = report.failed.iter().map(|(r, reason)| (r, Some(*reason))).collect();
    if !failed.is_empty() {
        sequence(&mut out, layout, FAILED_SEQUENCE, &failed);
    }
    let committed: Vec<(&Reference, Option<u16>)> = report.committed.iter().map(|r| (r, None)).collect();
    if !committed.is_empty() {
        sequence(&mut out, layout, REFERENCED_SEQUENCE, &committed);
    }
    out
}

fn sequence(out: &mut Vec<u8>, layout: Layout, tag: Tag, references: &[(&Reference, Option<u16>)]) {
    let mut body = Vec::new();
    for (reference, reason) in references {
        let mut item = Vec::new();
        text(&mut item, layout, REFERENCED_CLASS, *b"UI", reference.class.as_str());
        text(
            &mut item,
            layout,
            REFERENCED_INSTANCE,
            *b"UI",
            reference.instance.as_str(),
        );
        if let Some(reason) = reason {
            element_bytes(&mut item, layout, FAILURE_REASON, *b"US", &layout.put_u16(*reason));
        }
        tag_bytes(&mut body, layout, super::head::ITEM);
        body.extend_from_slice(&layout.put_u32(length(&item)));
        body.append(&mut item);
    }
    element_bytes(out, layout, tag, *b"SQ", &body);
}

fn text(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: [u8; 2], value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    if !bytes.len().is_multiple_of(2) {
        bytes.push(if vr == *b"UI" { 0 } else { b' ' });
    }
    element_bytes(out, layout, tag, vr, &bytes);
}

fn element_bytes(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: [u8; 2], value: &[u8]) {
    tag_bytes(out, layout, tag);
    if !layout.is_explicit() {
        out.extend_from_slice(&layout.put_u32(length(value)));
    } else if vr == *b"SQ" {
        out.extend_from_slice(&[b'S', b'Q', 0, 0]);
        out.extend_from_slice(&layout.put_u32(length(value)));
    } else {
        out.extend_from_slice(&vr);
        // UIDs, titles and one number: at most 64 bytes.
        out.extend_from_slice(&layout.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX)));
    }
    out.extend_from_slice(value);
}

fn tag_bytes(out: &mut Vec<u8>, layout: Layout, tag: Tag) {
    out.extend_from_slice(&layout.put_u16(tag.0));
    out.extend_from_slice(&layout.put_u16(tag.1));
}

fn length(bytes: &[u8]) -> u32 {
    // `REFERENCES_MAX` of them are below 4 MiB.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

const RETRIEVE_AE: Tag = Tag(0x0008, 0x0054);
const REFERENCED_CLASS: Tag = Tag(0x0008, 0x1150);
const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);
const TRANSACTION_UID: Tag = Tag(0x0008, 0x1195);
const FAILURE_REASON: Tag = Tag(0x0008, 0x1197);
const FAILED_SEQUENCE: Tag = Tag(0x0008, 0x1198);
const REFERENCED_SEQUENCE: Tag = Tag(0x0008, 0x1199);

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(number: usize) -> Reference {
        Reference {
            class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
            instance: Uid::parse(&format!("1.2.3.{number}")).unwrap(),
        }
    }

    #[test]
    fn what_is_written_reads_back_in_both_syntaxes() {
        for syntax in SYNTAXES.map(Uid::known) {
            let action = Action {
                transaction: Uid::known("2.25.7"),
                references: (0..3).map(reference).collect(),
            };
            assert_eq!(read_action(&syntax, &write_action(&syntax, &action)), Ok(action));
            let report = Report {
                transaction: Uid::known("2.25.77"),
                committed: vec![reference(1)],
                failed: vec![(reference(2), NO_SUCH_INSTANCE)],
                retrieve_ae: None,
            };
            assert_eq!(report.event_type(), FAILURES_EXIST);
            assert_eq!(read_report(&syntax, &write_report(&syntax, &report)), Ok(report));
        }
    }

    #[test]
    fn what_is_missing_is_named_and_has_its_status() {
        let syntax = Uid::known(SYNTAXES[1]);
        let mut only = Vec::new();
        text(&mut only, Layout::ImplicitLittle, TRANSACTION_UID, *b"UI", "1.2");
        let fault = read_action(&syntax, &only).unwrap_err();
        assert_eq!(
            (fault, fault.status()),
            (Fault::Missing("ReferencedSOPSequence"), 0x0115)
        );
        let mut no_transaction = Vec::new();
        sequence(
            &mut no_transaction,
            Layout::ImplicitLittle,
            REFERENCED_SEQUENCE,
            &[(&reference(1), None)],
        );
        assert_eq!(
            read_action(&syntax, &no_transaction),
            Err(Fault::Missing("TransactionUID"))
        );
        assert_eq!(read_action(&syntax, &[]), Err(Fault::Missing("TransactionUID")));
        assert_eq!(read_action(&syntax, &[1, 2, 3]), Err(Fault::Unreadable));
        sequence(&mut only, Layout::ImplicitLittle, REFERENCED_SEQUENCE, &[]);
        assert_eq!(
            read_action(&syntax, &only),
            Err(Fault::Missing("ReferencedSOPSequence"))
        );
    }

    #[test]
    fn a_list_is_bounded_and_each_instance_stands_once() {
        let syntax = Uid::known(SYNTAXES[0]);
        let action = |references| Action {
            transaction: Uid::known("1.2"),
            references,
        };
        let most = action((0..REFERENCES_MAX).map(reference).collect());
        assert_eq!(read_action(&syntax, &write_action(&syntax, &most)), Ok(most));
        let more = action((0..=REFERENCES_MAX).map(reference).collect());
        let fault = read_action(&syntax, &write_action(&syntax, &more)).unwrap_err();
        assert_eq!((fault, fault.status()), (Fault::TooMany, 0x0213));
        let twice = action(vec![reference(1), reference(1)]);
        let read = read_action(&syntax, &write_action(&syntax, &twice)).unwrap();
        assert_eq!(read.references, vec![reference(1)]);
    }
}
