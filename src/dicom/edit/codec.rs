//! A plan as versioned bytes for a job's record. The record around it carries the checksum.
use super::{Edit, EditError, Plan, Stamp};
use crate::base::limits::DEPTH_MAX;
use crate::dicom::path::{Path, Selector};
use dicom_core::{Tag, VR};

impl Plan {
    /// Versioned bytes for a job's record. Empty for an empty plan.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut bytes = vec![VERSION];
        put_length(&mut bytes, self.edits.len());
        for edit in &self.edits {
            match edit {
                Edit::Set { path, vr, value } => {
                    bytes.push(SET);
                    put_path(&mut bytes, path);
                    bytes.extend_from_slice(&vr.to_bytes());
                    put_bytes(&mut bytes, value);
                }
                Edit::Remove { path } => {
                    bytes.push(REMOVE);
                    put_path(&mut bytes, path);
                }
            }
        }
        bytes.push(u8::from(self.stamp.is_some()));
        if let Some(stamp) = &self.stamp {
            for text in [&stamp.system, &stamp.at, &stamp.epoch, &stamp.source] {
                put_bytes(&mut bytes, text.as_bytes());
            }
        }
        bytes
    }

    /// # Errors
    /// `Unreadable`.
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut from = Reader { rest: bytes };
        let plan = from.plan().ok_or(EditError::Unreadable)?;
        if from.rest.is_empty() {
            Ok(plan)
        } else {
            Err(EditError::Unreadable)
        }
    }
}

const VERSION: u8 = 1;
const SET: u8 = 1;
const REMOVE: u8 = 2;
const TAG: u8 = 1;
const PRIVATE: u8 = 2;

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // Eight bytes: no length is ever too long to be written.
    bytes.extend_from_slice(&(length as u64).to_be_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    put_length(bytes, value.len());
    bytes.extend_from_slice(value);
}

fn put_path(bytes: &mut Vec<u8>, path: &Path) {
    put_length(bytes, path.items.len());
    for (selector, index) in &path.items {
        put_selector(bytes, selector);
        put_length(bytes, *index);
    }
    put_selector(bytes, &path.leaf);
}

fn put_selector(bytes: &mut Vec<u8>, selector: &Selector) {
    match selector {
        Selector::Tag(Tag(group, element)) => {
            bytes.push(TAG);
            bytes.extend_from_slice(&group.to_be_bytes());
            bytes.extend_from_slice(&element.to_be_bytes());
        }
        Selector::Private {
            group,
            creator,
            element,
        } => {
            bytes.push(PRIVATE);
            bytes.extend_from_slice(&group.to_be_bytes());
            bytes.push(*element);
            put_bytes(bytes, creator.as_bytes());
        }
    }
}

/// Every method answers `None` when the bytes end or say something unknown.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn plan(&mut self) -> Option<Plan> {
        (self.byte()? == VERSION).then_some(())?;
        let count = self.length()?;
        let mut edits = Vec::new();
        for _ in 0..count {
            edits.push(self.edit()?);
        }
        let stamp = match self.byte()? {
            0 => None,
            1 => Some(Stamp {
                system: self.string()?,
                at: self.string()?,
                epoch: self.string()?,
                source: self.string()?,
            }),
            _ => return None,
        };
        Some(Plan { edits, stamp })
    }

    fn edit(&mut self) -> Option<Edit> {
        match self.byte()? {
            SET => Some(Edit::Set {
                path: self.path()?,
                vr: VR::from_binary([self.byte()?, self.byte()?])?,
                value: self.bytes()?.to_vec(),
            }),
            REMOVE => Some(Edit::Remove { path: self.path()? }),
            _ => None,
        }
    }

    fn path(&mut self) -> Option<Path> {
        let count = self.length()?;
        (count <= DEPTH_MAX).then_some(())?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push((self.selector()?, self.length()?));
        }
        let leaf = self.selector()?;
        Some(Path { items, leaf })
    }

    fn selector(&mut self) -> Option<Selector> {
        match self.byte()? {
            TAG => Some(Selector::Tag(Tag(self.word()?, self.word()?))),
            PRIVATE => Some(Selector::Private {
                group: self.word()?,
                element: self.byte()?,
                creator: self.string()?,
            }),
            _ => None,
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(8)?.first_chunk::<8>()?;
        usize::try_from(u64::from_be_bytes(*bytes)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}
