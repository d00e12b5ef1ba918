//! What a payload file is, seen from itself alone: whole, damaged, never sealed, or another instance's; and what a damaged one
//! still tells of itself. Changes nothing.
use super::payload::{self, FileState, HEADER_MAX, MAGIC, find_private, path_of};
use super::record::InstanceRecord;
use crate::base::names::{InstanceId, Uid};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What a payload file is, seen from itself alone.
pub(super) enum Found {
    Empty,
    /// Never sealed, and so never acknowledged: its header is written last, and is not there.
    Partial,
    /// Sealed once, and not what was sealed. It may have been acknowledged. With its identity, where that can be read and is its own.
    Damaged(Option<(Box<InstanceRecord>, FileState)>),
    /// Whole in itself, and by its own identity the payload of another id.
    Other(Box<InstanceRecord>, FileState),
    Whole(Box<InstanceRecord>, FileState),
}

/// Looks at the file of an id; with `deep`, its digest must be right too.
pub(super) fn inspect(root: &Path, id: InstanceId, deep: bool) -> io::Result<Found> {
    inspect_at(&path_of(root, id), id, deep)
}

/// The same for a file that lies elsewhere.
pub(super) fn inspect_at(path: &Path, id: InstanceId, deep: bool) -> io::Result<Found> {
    let mut file = payload::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(Found::Empty);
    }
    let mut start = Vec::new();
    (&mut file).take(HEADER_USUAL).read_to_end(&mut start)?;
    let mut private = find_private(&start);
    if private.is_none() {
        (&mut file)
            .take(HEADER_MAX as u64 - HEADER_USUAL)
            .read_to_end(&mut start)?;
        private = find_private(&start);
    }
    let Some((record, state)) = private else {
        return Ok(match has_header(&start) {
            true => Found::Damaged(None),
            false => Found::Partial,
        });
    };
    let whole = size == u64::from(record.data_set_offset) + record.instance.length
        && (!deep || digest(&mut file, record.data_set_offset)? == record.instance.digest);
    let record = Box::new(record);
    Ok(match (whole, record.instance.id == id) {
        (false, true) => Found::Damaged(Some((record, state))),
        (false, false) => Found::Damaged(None),
        (true, false) => Found::Other(record, state),
        (true, true) => Found::Whole(record, state),
    })
}

/// Our own header fits; a longer one is read in a second step.
const HEADER_USUAL: u64 = 4_096;
/// Where a Part 10 file has its prefix, and what it is (PS3.10, 7.1).
const PREFIX: (usize, &[u8]) = (128, b"DICM");

/// Whether a header was written: either of its two fixed words, since one of them may be what is damaged.
fn has_header(start: &[u8]) -> bool {
    let (at, prefix) = PREFIX;
    start.get(at..at + prefix.len()) == Some(prefix) || start.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// An error that says nothing of this file: the process may not, or the machine is out of something.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::ACCESS | Errno::PERM | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN)
    )
}

pub(super) fn digest(file: &mut File, data_set_offset: u32) -> io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(data_set_offset.into()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(*hasher.finalize().as_bytes())
}

/// So much of a damaged file is searched for its SOP Instance UID: the longest header, and as much of the data set.
const SEARCHED: u64 = 2 * HEADER_MAX as u64;

/// The SOP Instance UID that a damaged file still shows: that of its file meta information (0002,0003), or else of its data set
/// (0008,0018). Searched for as bytes and verified by nothing: around it anything may be damaged, so nothing is parsed.
pub(super) fn shown_uid(path: &Path) -> Option<Uid> {
    let mut start = Vec::new();
    payload::open(path).ok()?.take(SEARCHED).read_to_end(&mut start).ok()?;
    // Tag and VR in explicit little endian, in explicit big endian, and the tag alone of implicit little endian.
    let ways: [(&[u8], Value); 4] = [
        (b"\x02\0\x03\0UI", short_little),
        (b"\x08\0\x18\0UI", short_little),
        (b"\0\x08\0\x18UI", short_big),
        (b"\x08\0\x18\0", long_little),
    ];
    ways.into_iter().find_map(|(mark, value)| {
        let found = start.windows(mark.len()).enumerate();
        found
            .filter(|(_, window)| *window == mark)
            .find_map(|(at, _)| uid(value(&start[at + mark.len()..])?))
    })
}

/// Takes a value from behind its tag and VR.
type Value = fn(&[u8]) -> Option<&[u8]>;

fn short_little(raw: &[u8]) -> Option<&[u8]> {
    let length = u16::from_le_bytes(*raw.first_chunk()?);
    raw.get(2..2 + usize::from(length))
}

fn short_big(raw: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*raw.first_chunk()?);
    raw.get(2..2 + usize::from(length))
}

fn long_little(raw: &[u8]) -> Option<&[u8]> {
    let length = u16::try_from(u32::from_le_bytes(*raw.first_chunk()?)).ok()?;
    raw.get(4..4 + usize::from(length))
}

fn uid(value: &[u8]) -> Option<Uid> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\0', ' ']);
    Uid::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_shows_its_uid_in_each_syntax_and_never_something_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let shown = |bytes: &[u8]| {
            let mut all = vec![0xff; 700];
            all.extend_from_slice(bytes);
            std::fs::write(&path, all).unwrap();
            shown_uid(&path).map(|uid| uid.to_string())
        };
        let found = Some("1.2.3".to_owned());
        assert_eq!(
            shown(b"\x02\0\x03\0UI\x06\x001.2.3\0\x08\0\x18\0UI\x04\x001.9\0"),
            found
        );
        assert_eq!(shown(b"\x08\0\x18\0UI\x06\x001.2.3\0"), found);
        assert_eq!(shown(b"\0\x08\0\x18UI\x00\x061.2.3\0"), found);
        assert_eq!(shown(b"\x08\0\x18\0\x06\0\0\x001.2.3\0"), found);
        for none in [
            &b"\x08\0\x18\0UI\x06\x00DOE^J\0"[..],
            b"\x08\0\x18\0UI\xff\xff1.2",
            b"\x08\0\x18\0",
            b"",
        ] {
            assert_eq!(shown(none), None, "{none:?}");
        }
    }
}
