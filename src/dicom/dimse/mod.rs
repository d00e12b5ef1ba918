//! DIMSE commands (PS3.7): parsed and written in implicit little endian, nothing but what this box speaks.
//! Used by both sides of an association. Reading is tolerant (missing group length, any order, padded or odd-length
//! values, unknown elements), bounded by the bytes given, and never panics.
mod elements;
mod normalized;

use crate::base::names::{AeTitle, Uid};
use elements::{
    AFFECTED_CLASS, AFFECTED_INSTANCE, COMMAND_FIELD, DATA_SET_TYPE, ERROR_COMMENT, Elements, MESSAGE_ID,
    MOVE_MESSAGE_ID, MOVE_ORIGINATOR, PRIORITY, REQUESTED_CLASS, RESPONDED_TO, STATUS, Writer, cut,
};
use normalized::{ACTION_RQ, ACTION_RSP, EVENT_RQ, EVENT_RSP};

pub use normalized::{Asked, Told};

/// Priority (0000,0700).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    #[default]
    Medium,
    High,
    Low,
}

/// A command set, as far as this box uses it. Parsing is bounded (`COMMAND_MAX`), order-tolerant and ignores unknown elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    EchoRq {
        message_id: u16,
    },
    EchoRsp {
        message_id: u16,
        status: u16,
    },
    StoreRq(StoreRq),
    StoreRsp(StoreRsp),
    ActionRq(Asked),
    ActionRsp(Told),
    EventRq(Asked),
    EventRsp(Told),
    /// C-CANCEL: nothing to cancel here; read and passed over.
    Cancel {
        message_id: u16,
    },
    /// Any other request, answered 0211H by who receives it (`response_to`), or any other response.
    Other {
        field: u16,
        /// Of the request, also in its response.
        message_id: u16,
        /// Affected or Requested SOP Class UID, as far as the peer gave it.
        class: Option<Uid>,
        has_data_set: bool,
        /// `Some` in a response, and only there.
        status: Option<u16>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRq {
    pub message_id: u16,
    pub priority: Priority,
    /// `None` when the peer sent something that is no UID; the store is then answered with 0117H / C000H.
    pub sop_class: Option<Uid>,
    pub sop_instance: Option<Uid>,
    /// Move Originator AE title and message id, passed over by this box but parsed.
    pub move_originator: Option<(AeTitle, u16)>,
    /// False when Command Data Set Type says 0101H: a C-STORE without data set, answered with an error.
    pub has_data_set: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRsp {
    pub message_id: u16,
    pub status: u16,
    pub sop_class: Option<Uid>,
    pub sop_instance: Option<Uid>,
    /// Error Comment (0000,0902), at most 64 characters, never patient data when this box writes it.
    /// A peer's comment may be anything: never log it.
    pub comment: Option<String>,
}

/// Longest command set that is read, in bytes.
pub const COMMAND_MAX: usize = 64 << 10;

/// The Verification SOP class.
pub const VERIFICATION: &str = "1.2.840.10008.1.1";

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command set is not readable")]
    Malformed,
    #[error("the command set lacks {0}")]
    Missing(&'static str),
}

// Command Field (PS3.7 E.1).
const STORE_RQ: u16 = 0x0001;
const ECHO_RQ: u16 = 0x0030;
const CANCEL_RQ: u16 = 0x0FFF;
const RESPONSE: u16 = 0x8000;
const STORE_RSP: u16 = RESPONSE | STORE_RQ;
const ECHO_RSP: u16 = RESPONSE | ECHO_RQ;

/// Command Data Set Type: no data set. Any other value means that one follows.
const NO_DATA_SET: u16 = 0x0101;
const WITH_DATA_SET: u16 = 0x0001;

impl Command {
    /// # Errors
    /// `Malformed` when an element runs over the end or a needed number is no number; `Missing` without Command Field
    /// or message id.
    pub fn parse(bytes: &[u8]) -> Result<Self, CommandError> {
        let elements = Elements::read(bytes)?;
        let field = elements
            .number(COMMAND_FIELD)?
            .ok_or(CommandError::Missing("CommandField"))?;
        let id = if field & RESPONSE != 0 || field == CANCEL_RQ {
            let id = elements.number(RESPONDED_TO)?;
            id.ok_or(CommandError::Missing("MessageIDBeingRespondedTo"))
        } else {
            elements.number(MESSAGE_ID)?.ok_or(CommandError::Missing("MessageID"))
        };
        let message_id = id?;
        let status = || elements.number(STATUS)?.ok_or(CommandError::Missing("Status"));
        let has_data_set = match elements.number(DATA_SET_TYPE)? {
            Some(kind) => kind != NO_DATA_SET,
            None => field == STORE_RQ,
        };
        let class = || elements.uid(AFFECTED_CLASS).or_else(|| elements.uid(REQUESTED_CLASS));
        Ok(match field {
            ECHO_RQ if !has_data_set => Self::EchoRq { message_id },
            ECHO_RSP if !has_data_set => Self::EchoRsp {
                message_id,
                status: status()?,
            },
            STORE_RQ => Self::StoreRq(StoreRq {
                message_id,
                priority: elements.priority()?,
                sop_class: elements.uid(AFFECTED_CLASS),
                sop_instance: elements.uid(AFFECTED_INSTANCE),
                move_originator: elements.move_originator(),
                has_data_set,
            }),
            STORE_RSP if !has_data_set => Self::StoreRsp(StoreRsp {
                message_id,
                status: status()?,
                sop_class: elements.uid(AFFECTED_CLASS),
                sop_instance: elements.answered_instance()?,
                comment: elements.text(ERROR_COMMENT),
            }),
            ACTION_RQ => Self::ActionRq(Asked::read(field, message_id, has_data_set, &elements)?),
            EVENT_RQ => Self::EventRq(Asked::read(field, message_id, has_data_set, &elements)?),
            ACTION_RSP => Self::ActionRsp(Told::read(field, message_id, has_data_set, &elements)?),
            EVENT_RSP => Self::EventRsp(Told::read(field, message_id, has_data_set, &elements)?),
            CANCEL_RQ if !has_data_set => Self::Cancel { message_id },
            _ => Self::Other {
                field,
                message_id,
                class: class(),
                has_data_set,
                status: if field & RESPONSE != 0 { Some(status()?) } else { None },
            },
        })
    }

    /// The command set's bytes with its group length.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut set = Writer::default();
        let verification = Uid::known(VERIFICATION);
        match self {
            Self::EchoRq { message_id } => set.request(ECHO_RQ, *message_id, Some(&verification)),
            Self::EchoRsp { message_id, status } => set.response(ECHO_RSP, *message_id, Some(&verification), *status),
            Self::StoreRq(store) => {
                set.request(STORE_RQ, store.message_id, store.sop_class.as_ref());
                set.number(PRIORITY, priority_word(store.priority));
                set.uid(AFFECTED_INSTANCE, store.sop_instance.as_ref());
                if let Some((title, message_id)) = &store.move_originator {
                    set.text(MOVE_ORIGINATOR, title.as_str());
                    set.number(MOVE_MESSAGE_ID, *message_id);
                }
            }
            Self::StoreRsp(store) => {
                set.response(STORE_RSP, store.message_id, store.sop_class.as_ref(), store.status);
                set.uid(AFFECTED_INSTANCE, store.sop_instance.as_ref());
                if let Some(comment) = &store.comment {
                    set.text(ERROR_COMMENT, cut(comment));
                }
            }
            Self::ActionRq(asked) => asked.write(ACTION_RQ, &mut set),
            Self::EventRq(asked) => asked.write(EVENT_RQ, &mut set),
            Self::ActionRsp(told) => told.write(ACTION_RSP, &mut set),
            Self::EventRsp(told) => told.write(EVENT_RSP, &mut set),
            Self::Cancel { message_id } => {
                set.number(COMMAND_FIELD, CANCEL_RQ);
                set.number(RESPONDED_TO, *message_id);
            }
            Self::Other {
                field,
                message_id,
                class,
                status,
                ..
            } => match status {
                None => set.request(*field, *message_id, class.as_ref()),
                Some(status) => set.response(*field, *message_id, class.as_ref(), *status),
            },
        }
        let kind = if self.has_data_set() {
            WITH_DATA_SET
        } else {
            NO_DATA_SET
        };
        set.number(DATA_SET_TYPE, kind);
        set.bytes()
    }

    /// Whether a data set follows.
    #[must_use]
    pub fn has_data_set(&self) -> bool {
        match self {
            Self::StoreRq(store) => store.has_data_set,
            Self::Other { has_data_set, .. } => *has_data_set,
            Self::ActionRq(asked) | Self::EventRq(asked) => asked.has_data_set,
            Self::ActionRsp(told) | Self::EventRsp(told) => told.has_data_set,
            Self::EchoRq { .. } | Self::EchoRsp { .. } | Self::StoreRsp(_) | Self::Cancel { .. } => false,
        }
    }

    /// The response without data set to a request that has no type of its own here.
    #[must_use]
    pub fn response_to(field: u16, message_id: u16, class: Option<Uid>, status: u16) -> Self {
        Self::Other {
            field: field | RESPONSE,
            message_id,
            class,
            has_data_set: false,
            status: Some(status),
        }
    }
}

fn priority_word(priority: Priority) -> u16 {
    match priority {
        Priority::Medium => 0,
        Priority::High => 1,
        Priority::Low => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::elements::element;
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn raw(elements: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in elements {
            element(&mut bytes, *number, value);
        }
        bytes
    }

    fn samples() -> Vec<Command> {
        let store = StoreRq {
            message_id: 7,
            priority: Priority::High,
            sop_class: Some(uid("1.2.840.10008.5.1.4.1.1.2")),
            sop_instance: Some(uid("1.2.3")),
            move_originator: Some((AeTitle::parse("MOVER").unwrap(), 9)),
            has_data_set: true,
        };
        let answer = StoreRsp {
            message_id: 7,
            status: 0xA700,
            sop_class: store.sop_class.clone(),
            sop_instance: store.sop_instance.clone(),
            comment: Some("disk low".into()),
        };
        let other = Command::Other {
            field: 0x0140,
            message_id: 3,
            class: Some(uid("1.2.840.10008.3.1.2.3.3")),
            has_data_set: true,
            status: None,
        };
        let refused = Command::response_to(0x0140, 3, None, 0x0211);
        let asked = Asked {
            message_id: 4,
            class: Some(uid("1.2.840.10008.1.20.1")),
            instance: Some(uid("1.2.840.10008.1.20.1.1")),
            kind: Some(1),
            has_data_set: true,
        };
        vec![
            Command::ActionRq(asked.clone()),
            Command::ActionRsp(asked.answer(0x0115, Some("no transaction"))),
            Command::EventRq(asked.clone()),
            Command::EventRsp(asked.answer(0, None)),
            Command::EchoRq { message_id: 1 },
            Command::EchoRsp {
                message_id: 1,
                status: 0,
            },
            Command::StoreRq(store),
            Command::StoreRsp(answer),
            Command::Cancel { message_id: 5 },
            other,
            refused,
        ]
    }

    #[test]
    fn every_command_reads_back() {
        for command in samples() {
            let bytes = command.write();
            assert!(bytes.len().is_multiple_of(2));
            assert_eq!(bytes[8..12], u32::try_from(bytes.len() - 12).unwrap().to_le_bytes());
            assert_eq!(Command::parse(&bytes), Ok(command));
        }
    }

    #[test]
    fn elements_are_written_in_ascending_order() {
        for command in samples() {
            let bytes = command.write();
            let numbers: Vec<u16> = Elements::read(&bytes).unwrap().0.iter().map(|e| e.0).collect();
            assert!(numbers.is_sorted(), "{numbers:04x?}");
        }
    }

    #[test]
    fn odd_peers_are_understood() {
        // No group length, out of order, a NUL- and a space-padded UID, an odd length, an unknown element, group 0008.
        let mut bytes = raw(&[
            (AFFECTED_INSTANCE, b"1.2.03\0\0"),
            (0x5110, b"x"),
            (DATA_SET_TYPE, &[0, 0]),
            (MESSAGE_ID, &[2, 0]),
            (AFFECTED_CLASS, b"1.2.840.10008.5.1.4.1.1.7 "),
            (COMMAND_FIELD, &[1, 0]),
        ]);
        bytes.extend_from_slice(&[8, 0, 0, 0, 2, 0, 0, 0, 1, 2]);
        let Ok(Command::StoreRq(store)) = Command::parse(&bytes) else {
            panic!("a C-STORE-RQ");
        };
        assert_eq!(store.sop_instance, Some(uid("1.2.03")));
        assert_eq!(store.sop_class, Some(uid("1.2.840.10008.5.1.4.1.1.7")));
        assert!(store.has_data_set, "any type but 0101H means a data set");
    }

    #[test]
    fn a_uid_that_is_none_stays_away() {
        let bytes = raw(&[
            (AFFECTED_CLASS, b"../../etc/passwd"),
            (COMMAND_FIELD, &[1, 0]),
            (MESSAGE_ID, &[1, 0]),
            (AFFECTED_INSTANCE, &[0xff; 8]),
        ]);
        let Ok(Command::StoreRq(store)) = Command::parse(&bytes) else {
            panic!("a C-STORE-RQ");
        };
        assert_eq!((store.sop_class, store.sop_instance), (None, None));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(Command::parse(&[]), Err(CommandError::Missing("CommandField")));
        assert_eq!(Command::parse(&[0; 7]), Err(CommandError::Malformed));
        let long = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0];
        assert_eq!(Command::parse(&long), Err(CommandError::Malformed));
        let no_id = raw(&[(COMMAND_FIELD, &[1, 0])]);
        assert_eq!(Command::parse(&no_id), Err(CommandError::Missing("MessageID")));
        let no_status = raw(&[
            (COMMAND_FIELD, &[1, 0x80]),
            (RESPONDED_TO, &[1, 0]),
            (DATA_SET_TYPE, &[1, 1]),
        ]);
        assert_eq!(Command::parse(&no_status), Err(CommandError::Missing("Status")));
    }

    #[test]
    fn comments_are_cut_to_64_characters() {
        let answer = Command::StoreRsp(StoreRsp {
            message_id: 1,
            status: 0xC000,
            sop_class: None,
            sop_instance: None,
            comment: Some("x".repeat(100)),
        });
        let Ok(Command::StoreRsp(read)) = Command::parse(&answer.write()) else {
            panic!("a C-STORE-RSP");
        };
        assert_eq!(read.comment.map(|c| c.len()), Some(64));
    }

    #[test]
    fn a_comment_that_is_cut_at_a_blank_reads_back_as_itself() {
        // Found by libFuzzer: the blank at the 64th place was kept, and lost when it was read again.
        let said = format!("{} {}", "x".repeat(63), "y".repeat(20));
        let bytes = raw(&[
            (COMMAND_FIELD, &[1, 0x80]),
            (RESPONDED_TO, &[1, 0]),
            (DATA_SET_TYPE, &[1, 1]),
            (STATUS, &[0, 0xA7]),
            (ERROR_COMMENT, said.as_bytes()),
        ]);
        let read = Command::parse(&bytes).unwrap();
        let again = Command::parse(&read.write()).unwrap();
        assert_eq!(again, read);
        let Command::StoreRsp(StoreRsp { comment, .. }) = read else {
            panic!("a C-STORE-RSP");
        };
        assert_eq!(comment.map(|comment| comment.len()), Some(63));
    }

    #[test]
    fn an_answer_about_something_that_is_no_uid_is_no_answer() {
        let answer = |instance: &[u8]| {
            let bytes = raw(&[
                (COMMAND_FIELD, &[1, 0x80]),
                (RESPONDED_TO, &[1, 0]),
                (DATA_SET_TYPE, &[1, 1]),
                (STATUS, &[0, 0]),
                (AFFECTED_INSTANCE, instance),
            ]);
            match Command::parse(&bytes) {
                Ok(Command::StoreRsp(store)) => Ok(store.sop_instance),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error),
            }
        };
        assert_eq!(answer(b"1.2.3\0"), Ok(Some(uid("1.2.3"))));
        assert_eq!((answer(b""), answer(b"  ")), (Ok(None), Ok(None)));
        for wrong in [&b"../../../tmp/x"[..], b"$(id)", b"1.2\0/x", &[0xff; 8]] {
            assert_eq!(answer(wrong), Err(CommandError::Malformed), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Command::parse(&bytes);
        }
    }
}
