//! Data sets: the scanner in each syntax, inflating, edits, plans, Part 10, character sets.
use super::outcome::signature;
use dicom_core::{Tag, VR};
use std::io::Write;
use waystation::base::limits::{DEPTH_MAX, HEAD_MAX, NODES_MAX};
use waystation::base::names::Uid;
use waystation::dicom::edit::{Edit, Plan};
use waystation::dicom::head::{Head, HeadEnd, HeadError, Scanner};
use waystation::dicom::part10::FileMeta;
use waystation::dicom::path::Path;
use waystation::dicom::syntax::Syntax;
use waystation::dicom::text::{Charset, value};

pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const BIG: &str = "1.2.840.10008.1.2.2";
pub const JPEG: &str = "1.2.840.10008.1.2.4.50";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn syntax(uid: &'static str) -> Syntax {
    Syntax::of(&Uid::known(uid))
}

/// Whole and in pieces, the same comes out, and the index of a head holds what it promises.
pub fn scan(bytes: &[u8], uid: &'static str) -> u64 {
    let (step, data) = bytes.split_first().unwrap_or((&0, &[]));
    let whole = Head::scan(syntax(uid), data);
    let mut scanner = Scanner::new(syntax(uid));
    let step = usize::from(*step) + 1;
    let pushed: Result<(), HeadError> = data.chunks(step).try_for_each(|piece| scanner.push(piece).map(drop));
    let pieces = pushed.and_then(|()| scanner.finish());
    // Of what is wrong, another part may be seen first.
    assert_eq!(whole.is_ok(), pieces.is_ok(), "in pieces of {step} and whole");
    if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces, "in pieces of {step} and whole");
    }
    match whole {
        Ok(head) => {
            holds(&head);
            let shape: Vec<_> = head
                .nodes
                .iter()
                .take(12)
                .map(|node| (node.kind, node.undefined, node.depth))
                .collect();
            signature(&(head.end, head.follows.map(|tag| tag.0), depth(&head), shape))
        }
        Err(error) => signature(&error),
    }
}

fn depth(head: &Head) -> u8 {
    head.nodes.iter().map(|node| node.depth).max().unwrap_or_default()
}

fn holds(head: &Head) {
    assert!(head.bytes.len() <= HEAD_MAX && head.nodes.len() <= NODES_MAX);
    assert!(usize::from(depth(head)) <= DEPTH_MAX);
    for (index, node) in head.nodes.iter().enumerate() {
        assert!(
            node.start <= node.value && node.value <= node.end,
            "a node out of order"
        );
        assert!(node.end as usize <= head.bytes.len(), "a node beyond the head's bytes");
        assert!(node.next as usize > index && node.next as usize <= head.nodes.len());
        let _ = head.raw(index);
    }
    for text in [
        "PatientName",
        "OriginalAttributesSequence[0].ModifyingSystem",
        "SpecificCharacterSet",
    ] {
        let path = Path::parse(text).expect("a path");
        let _ = (head.decoded(&path), head.items(&path), head.charset(&path));
    }
    let _ = head.first(Tag(0x0008, 0x0018));
}

/// A head that was deflated is the head that was not.
pub fn inflate(bytes: &[u8]) -> u64 {
    let plain = Head::scan(syntax(EXPLICIT), bytes);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(bytes).expect("memory");
    let deflated = Head::scan(syntax(DEFLATED), &deflate.finish().expect("memory"));
    match (&plain, &deflated) {
        (Ok(plain), Ok(deflated)) => {
            assert_eq!(plain.bytes, deflated.bytes);
            assert_eq!(plain.nodes, deflated.nodes);
            assert_eq!((plain.end, plain.follows), (deflated.end, deflated.follows));
        }
        // Behind a head, the structure of a deflated data set is not followed; two bytes may be taken for zlib's.
        (Err(HeadError::Truncated { .. }), Ok(_)) | (_, Err(HeadError::BadDeflate | HeadError::Bomb)) => {}
        (plain, deflated) => assert_eq!(plain.is_ok(), deflated.is_ok()),
    }
    signature(&(plain.is_ok(), deflated.is_ok(), plain.map(|head| head.nodes.len()).ok()))
}

/// Elements of the root that the edits of `edit` name.
const NAMED: [(Tag, VR); 5] = [
    (Tag(0x0010, 0x0010), VR::PN),
    (Tag(0x0010, 0x0020), VR::LO),
    (Tag(0x0008, 0x1030), VR::LO),
    (Tag(0x0018, 0x0015), VR::CS),
    (Tag(0x0028, 0x0301), VR::CS),
];

/// Root elements by tag with their bytes, but for group lengths, which an edit may drop.
fn root(head: &Head) -> Vec<(Tag, Vec<u8>)> {
    let of_root = head.nodes.iter().filter(|node| node.depth == 0 && node.tag.1 != 0);
    of_root
        .map(|node| (node.tag, head.bytes[node.range()].to_vec()))
        .collect()
}

/// Scan, edit, scan again: what was named is as asked, everything else stands byte for byte.
pub fn edit(bytes: &[u8]) -> u64 {
    let [kind, which, length, data @ ..] = bytes else {
        return 0;
    };
    let uid = [IMPLICIT, EXPLICIT, BIG][usize::from(*kind) % 3];
    let Ok(head) = Head::scan(syntax(uid), data) else {
        return 1;
    };
    let before = root(&head);
    let (tag, vr) = NAMED[usize::from(*which) % NAMED.len()];
    let is_set = *which >= 128;
    if before.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return 2;
    }
    let path = Path::tag(tag);
    let value = vec![b'A'; usize::from(*length) & !1];
    let edit = if is_set {
        Edit::Set {
            path,
            vr,
            value: value.clone(),
        }
    } else {
        Edit::Remove { path }
    };
    let plan = Plan {
        edits: vec![edit],
        stamp: None,
    };
    let encoded = plan.encode();
    assert_eq!(
        Plan::decode(&encoded).as_ref(),
        Ok(&plan),
        "a plan that changes when it is stored"
    );
    let edited = match plan.apply(&head) {
        Ok(edited) => edited,
        Err(error) => return signature(&error),
    };
    let again = Head::scan(syntax(uid), &edited).expect("an edited head can be scanned");
    let after = root(&again);
    let others = |all: &[(Tag, Vec<u8>)]| -> Vec<(Tag, Vec<u8>)> {
        all.iter().filter(|(found, _)| *found != tag).cloned().collect()
    };
    assert_eq!(
        others(&before),
        others(&after),
        "an element that nobody named has changed"
    );
    let found = again.nodes.iter().position(|node| node.depth == 0 && node.tag == tag);
    assert_eq!(found.is_some(), is_set, "set is there, removed is gone");
    if let Some(node) = found {
        assert_eq!(again.raw(node), &value[..], "the value that was asked for");
    }
    signature(&(is_set, before.len(), head.end == HeadEnd::DataSet))
}

/// A stored plan that reads is written as itself.
pub fn plan(bytes: &[u8]) -> u64 {
    match Plan::decode(bytes) {
        Err(error) => signature(&error),
        Ok(plan) => {
            // Without an edit there is nothing to stamp, and nothing is stored.
            if !plan.is_empty() {
                assert_eq!(Plan::decode(&plan.encode()).as_ref(), Ok(&plan));
            }
            let head = Head::scan(syntax(EXPLICIT), &super::seeds::data_set(true)).expect("a head");
            signature(&(plan.edits.len(), plan.apply(&head).is_ok()))
        }
    }
}

/// What reads is written as what reads the same.
pub fn part10(bytes: &[u8]) -> u64 {
    match FileMeta::read(bytes) {
        Err(error) => signature(&error),
        Ok((meta, offset)) => {
            assert!(offset <= bytes.len(), "the data set starts in the file");
            let written = meta.write();
            // Once: an odd value is padded when it is written.
            let (again, end) = FileMeta::read(&written).expect("what this box writes it can read");
            assert_eq!(end, written.len());
            assert_eq!(again.write(), written);
            assert_eq!(
                (&again.sop_class, &again.sop_instance),
                (&meta.sop_class, &meta.sop_instance)
            );
            assert_eq!(
                (&again.transfer_syntax, &again.source_ae),
                (&meta.transfer_syntax, &meta.source_ae)
            );
            signature(&(offset, meta.source_ae.is_some(), meta.private.is_some()))
        }
    }
}

/// Any bytes in any character set are decoded, and what was decoded without loss is encoded and decoded as the same text.
pub fn text(bytes: &[u8]) -> u64 {
    let [split, rest @ ..] = bytes else { return 0 };
    let (terms, said) = rest.split_at(usize::from(*split).min(rest.len()));
    let terms: Vec<String> = String::from_utf8_lossy(terms).split('\\').map(str::to_owned).collect();
    let charset = Charset::of(&terms);
    let mut outcomes = Vec::new();
    for vr in [VR::PN, VR::LO, VR::UT, VR::UI] {
        let Some(form) = value::form(vr) else { continue };
        let decoded = charset.decode(said, form);
        outcomes.push(decoded.values.len());
        if let Some(first) = decoded.values.first()
            && let Ok(encoded) = charset.encode(first, form)
        {
            outcomes.push(encoded.len().min(64));
        }
    }
    signature(&(charset.is_known(), outcomes))
}
