//! The normalised messages (PS3.7 chapter 10) that this box speaks: N-ACTION and N-EVENT-REPORT, both ways.
//! One shape serves both; only the element numbers differ.
use super::elements::{
    ACTION_TYPE, AFFECTED_CLASS, AFFECTED_INSTANCE, COMMAND_FIELD, ERROR_COMMENT, EVENT_TYPE, Elements, MESSAGE_ID,
    REQUESTED_CLASS, REQUESTED_INSTANCE, RESPONDED_TO, STATUS, Writer, cut,
};
use super::{CommandError, RESPONSE};
use crate::base::names::Uid;

pub(super) const EVENT_RQ: u16 = 0x0100;
pub(super) const ACTION_RQ: u16 = 0x0130;
pub(super) const EVENT_RSP: u16 = RESPONSE | EVENT_RQ;
pub(super) const ACTION_RSP: u16 = RESPONSE | ACTION_RQ;

/// An N-ACTION-RQ or N-EVENT-REPORT-RQ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub message_id: u16,
    /// Requested (N-ACTION) or Affected (N-EVENT-REPORT) SOP Class UID; `None` when it is no UID.
    pub class: Option<Uid>,
    /// The same of the instance.
    pub instance: Option<Uid>,
    /// Action Type ID or Event Type ID.
    pub kind: Option<u16>,
    pub has_data_set: bool,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub message_id: u16,
    pub status: u16,
    pub class: Option<Uid>,
    pub instance: Option<Uid>,
    pub kind: Option<u16>,
    /// An Action Reply or Event Reply follows; read and passed over by who receives it.
    pub has_data_set: bool,
    /// As in `StoreRsp`: never log a peer's.
    pub comment: Option<String>,
}

impl Asked {
    /// The answer with this status.
    #[must_use]
    pub fn answer(&self, status: u16, comment: Option<&str>) -> Told {
        Told {
            message_id: self.message_id,
            status,
            class: self.class.clone(),
            instance: self.instance.clone(),
            kind: self.kind,
            has_data_set: false,
            comment: comment.map(str::to_owned),
        }
    }

    pub(super) fn read(
        field: u16,
        message_id: u16,
        has_data_set: bool,
        elements: &Elements<'_>,
    ) -> Result<Self, CommandError> {
        let (class, instance, kind) = match field {
            ACTION_RQ => (REQUESTED_CLASS, REQUESTED_INSTANCE, ACTION_TYPE),
            _ => (AFFECTED_CLASS, AFFECTED_INSTANCE, EVENT_TYPE),
        };
        Ok(Self {
            message_id,
            class: elements.uid(class),
            instance: elements.uid(instance),
            kind: elements.number(kind)?,
            has_data_set,
        })
    }

    pub(super) fn write(&self, field: u16, set: &mut Writer) {
        let (class, instance, kind) = match field {
            ACTION_RQ => (REQUESTED_CLASS, REQUESTED_INSTANCE, ACTION_TYPE),
            _ => (AFFECTED_CLASS, AFFECTED_INSTANCE, EVENT_TYPE),
        };
        set.uid(class, self.class.as_ref());
        set.number(COMMAND_FIELD, field);
        set.number(MESSAGE_ID, self.message_id);
        set.uid(instance, self.instance.as_ref());
        if let Some(number) = self.kind {
            set.number(kind, number);
        }
    }
}

impl Told {
    pub(super) fn read(
        field: u16,
        message_id: u16,
        has_data_set: bool,
        elements: &Elements<'_>,
    ) -> Result<Self, CommandError> {
        let kind = if field == ACTION_RSP { ACTION_TYPE } else { EVENT_TYPE };
        Ok(Self {
            message_id,
            status: elements.number(STATUS)?.ok_or(CommandError::Missing("Status"))?,
            class: elements.uid(AFFECTED_CLASS),
            instance: elements.uid(AFFECTED_INSTANCE),
            kind: elements.number(kind)?,
            has_data_set,
            comment: elements.text(ERROR_COMMENT),
        })
    }

    pub(super) fn write(&self, field: u16, set: &mut Writer) {
        let kind = if field == ACTION_RSP { ACTION_TYPE } else { EVENT_TYPE };
        set.uid(AFFECTED_CLASS, self.class.as_ref());
        set.number(COMMAND_FIELD, field);
        set.number(RESPONDED_TO, self.message_id);
        set.number(STATUS, self.status);
        set.uid(AFFECTED_INSTANCE, self.instance.as_ref());
        if let Some(number) = self.kind {
            set.number(kind, number);
        }
        if let Some(comment) = &self.comment {
            set.text(ERROR_COMMENT, cut(comment));
        }
    }
}
