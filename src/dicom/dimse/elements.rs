//! The elements of a command set: group 0000 in implicit little endian, read with tolerance and written in order.
use super::{CommandError, Priority};
use crate::base::names::{AeTitle, Uid};

// Elements of group 0000.
pub(super) const GROUP_LENGTH: u16 = 0x0000;
pub(super) const AFFECTED_CLASS: u16 = 0x0002;
pub(super) const REQUESTED_CLASS: u16 = 0x0003;
pub(super) const COMMAND_FIELD: u16 = 0x0100;
pub(super) const MESSAGE_ID: u16 = 0x0110;
pub(super) const RESPONDED_TO: u16 = 0x0120;
pub(super) const PRIORITY: u16 = 0x0700;
pub(super) const DATA_SET_TYPE: u16 = 0x0800;
pub(super) const STATUS: u16 = 0x0900;
pub(super) const ERROR_COMMENT: u16 = 0x0902;
pub(super) const AFFECTED_INSTANCE: u16 = 0x1000;
pub(super) const REQUESTED_INSTANCE: u16 = 0x1001;
pub(super) const EVENT_TYPE: u16 = 0x1002;
pub(super) const ACTION_TYPE: u16 = 0x1008;
pub(super) const MOVE_ORIGINATOR: u16 = 0x1030;
pub(super) const MOVE_MESSAGE_ID: u16 = 0x1031;

/// An LO value's 64 characters, cut where a character ends.
pub(super) fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The elements of group 0000: element number and value, in the order of the bytes.
pub(super) struct Elements<'a>(pub(super) Vec<(u16, &'a [u8])>);

impl<'a> Elements<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let mut elements = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (&[g0, g1, e0, e1, l0, l1, l2, l3], after) = rest.split_first_chunk().ok_or(CommandError::Malformed)?;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let (value, after) = after.split_at_checked(length).ok_or(CommandError::Malformed)?;
            if u16::from_le_bytes([g0, g1]) == 0 {
                elements.push((u16::from_le_bytes([e0, e1]), value));
            }
            rest = after;
        }
        Ok(Self(elements))
    }

    pub(super) fn value(&self, element: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(number, _)| *number == element)
            .map(|(_, value)| *value)
    }

    /// The first number of a US value; absent and empty are the same.
    pub(super) fn number(&self, element: u16) -> Result<Option<u16>, CommandError> {
        match self.value(element) {
            None | Some([]) => Ok(None),
            Some([low, high, ..]) => Ok(Some(u16::from_le_bytes([*low, *high]))),
            Some([_]) => Err(CommandError::Malformed),
        }
    }

    pub(super) fn priority(&self) -> Result<Priority, CommandError> {
        Ok(match self.number(PRIORITY)? {
            Some(1) => Priority::High,
            Some(2) => Priority::Low,
            // Absent or out of range: nothing depends on it.
            _ => Priority::Medium,
        })
    }

    pub(super) fn text(&self, element: u16) -> Option<String> {
        let value = self.value(element)?;
        let text = String::from_utf8_lossy(value);
        // Twice: the cut may end in what would be padding when it is written and read again.
        let text = cut(text.trim_matches([' ', '\0'])).trim_end_matches([' ', '\0']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(super) fn uid(&self, element: u16) -> Option<Uid> {
        Uid::parse(std::str::from_utf8(self.value(element)?).ok()?).ok()
    }

    /// The instance that a response is about; absent and empty are the same.
    ///
    /// # Errors
    /// `Malformed` for what is no UID: it is not the instance that was sent, and must not pass for an absent one.
    pub(super) fn answered_instance(&self) -> Result<Option<Uid>, CommandError> {
        let said = self.value(AFFECTED_INSTANCE).unwrap_or_default();
        if said.iter().all(|byte| matches!(byte, b' ' | b'\0')) {
            return Ok(None);
        }
        let uid = self.uid(AFFECTED_INSTANCE).ok_or(CommandError::Malformed)?;
        Ok(Some(uid))
    }

    pub(super) fn move_originator(&self) -> Option<(AeTitle, u16)> {
        let title = AeTitle::parse(std::str::from_utf8(self.value(MOVE_ORIGINATOR)?).ok()?).ok()?;
        Some((title, self.number(MOVE_MESSAGE_ID).ok()??))
    }
}

/// Gathers elements; they are sorted when the bytes are put together.
#[derive(Default)]
pub(super) struct Writer(Vec<(u16, Vec<u8>)>);

impl Writer {
    pub(super) fn number(&mut self, element: u16, value: u16) {
        self.0.push((element, value.to_le_bytes().to_vec()));
    }

    pub(super) fn uid(&mut self, element: u16, uid: Option<&Uid>) {
        if let Some(uid) = uid {
            self.padded(element, uid.as_str(), 0);
        }
    }

    pub(super) fn text(&mut self, element: u16, text: &str) {
        self.padded(element, text, b' ');
    }

    fn padded(&mut self, element: u16, text: &str, pad: u8) {
        let mut value = text.as_bytes().to_vec();
        if !value.len().is_multiple_of(2) {
            value.push(pad);
        }
        self.0.push((element, value));
    }

    pub(super) fn request(&mut self, field: u16, message_id: u16, class: Option<&Uid>) {
        self.uid(AFFECTED_CLASS, class);
        self.number(COMMAND_FIELD, field);
        self.number(MESSAGE_ID, message_id);
    }

    pub(super) fn response(&mut self, field: u16, message_id: u16, class: Option<&Uid>, status: u16) {
        self.uid(AFFECTED_CLASS, class);
        self.number(COMMAND_FIELD, field);
        self.number(RESPONDED_TO, message_id);
        self.number(STATUS, status);
    }

    pub(super) fn bytes(mut self) -> Vec<u8> {
        self.0.sort_by_key(|(element, _)| *element);
        let mut elements = Vec::new();
        for (number, value) in &self.0 {
            element(&mut elements, *number, value);
        }
        let mut whole = Vec::new();
        element(&mut whole, GROUP_LENGTH, &length_of(&elements).to_le_bytes());
        whole.append(&mut elements);
        whole
    }
}

pub(super) fn element(bytes: &mut Vec<u8>, number: u16, value: &[u8]) {
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&length_of(value).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn length_of(value: &[u8]) -> u32 {
    // A command set of ours is a few hundred bytes.
    u32::try_from(value.len()).unwrap_or(u32::MAX)
}
