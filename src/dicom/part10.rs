//! DICOM Part 10 files: preamble, file meta information, and where the data set starts.
//!
//! Written by the spool and the folder sender, read by the spool's recovery, `send` and `rules trace`. Reading is bounded by
//! what is given; a declared length allocates nothing.
use super::syntax::Layout;
use crate::base::names::{AeTitle, Uid};

/// The file meta information that this box writes and reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileMeta {
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016).
    pub source_ae: Option<AeTitle>,
    /// Private Information Creator UID (0002,0100) and Private Information (0002,0102).
    pub private: Option<(Uid, Vec<u8>)>,
}

/// Why a file is no DICOM file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Part10Error {
    #[error("not a DICOM Part 10 file (no DICM at byte 128)")]
    NotPart10,
    #[error("the file meta information is not readable")]
    BadMeta,
    #[error("the file meta information lacks {0}")]
    Missing(&'static str),
}

/// This box's implementation class UID (under 2.25) and version name.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.169384732981045273920174839201748392011";
pub const IMPLEMENTATION_VERSION: &str = "WAYSTATION_01";
/// The creator of the private information in the file meta information of spool files.
pub const PRIVATE_CREATOR_UID: &str = "2.25.169384732981045273920174839201748392012";

/// The longest preamble and file meta information that is read.
pub const META_MAX: usize = 64 << 10;

impl FileMeta {
    /// Preamble (zeros), `DICM` and the file meta information, with right group length. The data set follows directly.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = vec![0; PREAMBLE];
        bytes.extend_from_slice(MAGIC);
        let body = self.body().0;
        // The body has a handful of short elements and private information that is written by this box alone.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&[2, 0, 0, 0, b'U', b'L', 4, 0]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads the start of a file. Answers the meta and the offset of the data set. A missing or wrong group length and an
    /// implicit file meta information are tolerated; a missing preamble is not.
    ///
    /// # Errors
    /// See `Part10Error`. Give at least `META_MAX` bytes, or the whole file when it is shorter.
    pub fn read(start: &[u8]) -> Result<(Self, usize), Part10Error> {
        if start.get(PREAMBLE..PREAMBLE + MAGIC.len()) != Some(MAGIC) {
            return Err(Part10Error::NotPart10);
        }
        let mut found = Found::default();
        let mut at = PREAMBLE + MAGIC.len();
        let mut declared_end = None;
        while declared_end != Some(at) && start.len() > at {
            let (element, value, end) = match element(start, at) {
                Some(Ok(element)) => element,
                Some(Err(wrong)) => return Err(wrong),
                None => break,
            };
            match (element, value) {
                (0x0000, [a, b, c, d]) => {
                    declared_end = end.checked_add(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
                }
                (0x0002, _) => found.sop_class = text(value),
                (0x0003, _) => found.sop_instance = text(value),
                (0x0010, _) => found.transfer_syntax = text(value),
                (0x0016, _) => found.source_ae = text(value),
                (0x0100, _) => found.private_creator = text(value),
                (0x0102, _) => found.private = Some(value.to_vec()),
                _ => {}
            }
            at = end;
        }
        Ok((found.meta()?, at))
    }

    /// The offset of the private information's value in what `write` answered; `None` without private information.
    #[must_use]
    pub fn private_offset(&self) -> Option<usize> {
        self.body().1.map(|offset| BODY + offset)
    }

    /// The elements after the group length, and where the private information's value stands among them.
    fn body(&self) -> (Vec<u8>, Option<usize>) {
        let mut body = Vec::with_capacity(512);
        long(&mut body, 0x0001, &[0, 1]);
        short(&mut body, 0x0002, b"UI", self.sop_class.as_str());
        short(&mut body, 0x0003, b"UI", self.sop_instance.as_str());
        short(&mut body, 0x0010, b"UI", self.transfer_syntax.as_str());
        short(&mut body, 0x0012, b"UI", IMPLEMENTATION_CLASS_UID);
        short(&mut body, 0x0013, b"SH", IMPLEMENTATION_VERSION);
        if let Some(source) = &self.source_ae {
            short(&mut body, 0x0016, b"AE", source.as_str());
        }
        let private = self.private.as_ref().map(|(creator, value)| {
            short(&mut body, 0x0100, b"UI", creator.as_str());
            let offset = body.len() + 12;
            long(&mut body, 0x0102, value);
            offset
        });
        (body, private)
    }
}

/// What was read, before it is checked.
#[derive(Default)]
struct Found {
    sop_class: Option<String>,
    sop_instance: Option<String>,
    transfer_syntax: Option<String>,
    source_ae: Option<String>,
    private_creator: Option<String>,
    private: Option<Vec<u8>>,
}

impl Found {
    fn meta(self) -> Result<FileMeta, Part10Error> {
        let uid = |text: Option<String>, name| {
            let text = text.filter(|text| !text.is_empty()).ok_or(Part10Error::Missing(name))?;
            Uid::parse(&text).map_err(|_| Part10Error::BadMeta)
        };
        let creator = self.private_creator.and_then(|text| Uid::parse(&text).ok());
        Ok(FileMeta {
            sop_class: uid(self.sop_class, "Media Storage SOP Class UID")?,
            sop_instance: uid(self.sop_instance, "Media Storage SOP Instance UID")?,
            transfer_syntax: uid(self.transfer_syntax, "Transfer Syntax UID")?,
            // A title that is none says nothing about the data set: it is passed over.
            source_ae: self.source_ae.and_then(|text| AeTitle::parse(&text).ok()),
            private: creator.zip(self.private),
        })
    }
}

/// Element number, value and end of the element at `at`; `None` when the data set begins there.
#[allow(clippy::type_complexity)]
fn element(start: &[u8], at: usize) -> Option<Result<(u16, &[u8], usize), Part10Error>> {
    let head = match start.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(head) => *head,
        None if start.len() < META_MAX => return None,
        None => return Some(Err(Part10Error::BadMeta)),
    };
    let [g, group, e, element, v, r, a, b] = head;
    if u16::from_le_bytes([g, group]) != 0x0002 {
        return None;
    }
    let (value, length) = match [v, r] {
        [b'O', b'B'] | [b'O', b'W'] | [b'U', b'N'] | [b'U', b'T'] | [b'S', b'Q'] => {
            let length = start.get(at + 8..).and_then(<[u8]>::first_chunk::<4>);
            (at + 12, length.map(|length| u32::from_le_bytes(*length) as usize))
        }
        [b'A'..=b'Z', b'A'..=b'Z'] => (at + 8, Some(usize::from(u16::from_le_bytes([a, b])))),
        _ => (at + 8, Some(u32::from_le_bytes([v, r, a, b]) as usize)),
    };
    let end = length.and_then(|length| value.checked_add(length));
    let found = end.and_then(|end| Some((u16::from_le_bytes([e, element]), start.get(value..end)?, end)));
    Some(found.ok_or(Part10Error::BadMeta))
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.trim_matches([' ', '\0']).to_owned())
}

fn short(body: &mut Vec<u8>, element: u16, vr: &[u8; 2], text: &str) {
    let padding = if vr == b"UI" { 0 } else { b' ' };
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(padding);
    }
    put(body, element, vr);
    // UIDs, AE titles and our own names have at most 64 characters.
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(&value);
}

fn long(body: &mut Vec<u8>, element: u16, value: &[u8]) {
    put(body, element, b"OB");
    let even = value.len() + value.len() % 2;
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&(even as u32).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len() + even - value.len(), 0);
}

fn put(body: &mut Vec<u8>, element: u16, vr: &[u8; 2]) {
    let layout = Layout::ExplicitLittle;
    body.extend_from_slice(&layout.put_u16(0x0002));
    body.extend_from_slice(&layout.put_u16(element));
    body.extend_from_slice(vr);
}

const PREAMBLE: usize = 128;
const MAGIC: &[u8] = b"DICM";
/// Where the elements after the group length begin.
const BODY: usize = PREAMBLE + 4 + 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(private: Option<Vec<u8>>) -> FileMeta {
        FileMeta {
            sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Uid::known("1.2.3"),
            transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
            source_ae: AeTitle::parse("CT1").ok(),
            private: private.map(|value| (Uid::known(PRIVATE_CREATOR_UID), value)),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for private in [None, Some(vec![1, 2, 3, 4]), Some(vec![0; 512])] {
            let meta = meta(private.clone());
            let written = meta.write();
            let file = [written.clone(), vec![8, 0, 5, 0, b'C', b'S', 0, 0]].concat();
            assert_eq!(FileMeta::read(&file), Ok((meta.clone(), written.len())));
            assert_eq!(FileMeta::read(&written), Ok((meta.clone(), written.len())));
            let offset = meta.private_offset();
            let value = private
                .as_deref()
                .and_then(|value| Some(&written[offset?..][..value.len()]));
            assert_eq!(value, private.as_deref());
        }
    }

    #[test]
    fn dicom_object_reads_what_is_written() {
        let file = [
            meta(Some(vec![7; 10])).write(),
            vec![8, 0, 0x60, 0, b'C', b'S', 2, 0, b'C', b'T'],
        ]
        .concat();
        let object = dicom_object::from_reader(file.as_slice()).unwrap();
        assert_eq!(object.meta().media_storage_sop_instance_uid(), "1.2.3");
        assert_eq!(object.meta().private_information.as_deref(), Some([7; 10].as_slice()));
        assert_eq!(object.element_by_name("Modality").unwrap().to_str().unwrap(), "CT");
    }

    #[test]
    fn a_deflated_data_set_that_looks_like_group_two_is_no_meta() {
        let written = meta(None).write();
        let file = [written.clone(), vec![2, 0, 16, 0, b'U', b'I', 2, 0, b'9', b'9']].concat();
        assert_eq!(FileMeta::read(&file).unwrap(), (meta(None), written.len()));
    }

    #[test]
    fn odd_but_readable_metas_are_read() {
        let written = meta(None).write();
        let without_length = [
            &written[..PREAMBLE + 4],
            &written[BODY..],
            &[8, 0, 5, 0, b'C', b'S', 0, 0],
        ]
        .concat();
        assert_eq!(FileMeta::read(&without_length), Ok((meta(None), written.len() - 12)));
        let mut implicit = written[..PREAMBLE + 4].to_vec();
        for (element, text) in [
            (2u8, "1.2.840.10008.5.1.4.1.1.2\0"),
            (3, "1.2.3\0"),
            (16, "1.2.840.10008.1.2\0"),
        ] {
            implicit.extend_from_slice(&[2, 0, element, 0]);
            implicit.extend_from_slice(&(text.len() as u32).to_le_bytes());
            implicit.extend_from_slice(text.as_bytes());
        }
        let (found, end) = FileMeta::read(&implicit).unwrap();
        assert_eq!(
            (found.transfer_syntax.as_str(), end),
            ("1.2.840.10008.1.2", implicit.len())
        );
    }

    #[test]
    fn what_is_no_meta_is_refused() {
        assert_eq!(FileMeta::read(b"DICM"), Err(Part10Error::NotPart10));
        assert_eq!(FileMeta::read(&[0; 400]), Err(Part10Error::NotPart10));
        let written = meta(None).write();
        let missing = FileMeta::read(&written[..PREAMBLE + 4]);
        assert_eq!(missing, Err(Part10Error::Missing("Media Storage SOP Class UID")));
        let huge = [
            &written[..PREAMBLE + 4],
            &[2, 0, 1, 0, b'O', b'B', 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        assert_eq!(FileMeta::read(&huge), Err(Part10Error::BadMeta));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(noise in any::<Vec<u8>>(), at in any::<prop::sample::Index>()) {
            let mut file = meta(Some(vec![1; 20])).write();
            let place = at.index(file.len());
            file.splice(place..place, noise);
            if let Ok((_, end)) = FileMeta::read(&file) {
                prop_assert!(end <= file.len());
            }
        }
    }
}
