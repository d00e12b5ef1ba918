//! The association PDUs as bytes. dicom-ul writes A-ASSOCIATE-RQ and -AC; reading is ours, because its parser refuses
//! what PS3.8 9.3 says must be ignored (unknown items) and what peers really send (a refused context without transfer
//! syntax). Parsing is bounded by the PDU's own bytes, never panics, and keeps at most `SYNTAXES_MAX` per context.
use super::request::{Context, Local, Proposed, Rejection, Request, RoleSelection};
use super::{APPLICATION_CONTEXT, CONTEXTS_MAX, Peer};
use crate::base::names::{AeTitle, Uid};
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem, write_pdu,
};

pub(super) const ASSOCIATE_RQ: u8 = 1;
pub(super) const ASSOCIATE_AC: u8 = 2;
pub(super) const ASSOCIATE_RJ: u8 = 3;
pub(super) const P_DATA: u8 = 4;
pub(super) const RELEASE_RQ: u8 = 5;
pub(super) const RELEASE_RP: u8 = 6;
pub(super) const ABORT: u8 = 7;

/// A-ABORT by the service provider, and its reasons (PS3.8 table 9-26).
pub(super) const PROVIDER: u8 = 2;
pub(super) const NO_REASON: u8 = 0;
pub(super) const UNRECOGNIZED_PDU: u8 = 1;
pub(super) const UNEXPECTED_PDU: u8 = 2;
pub(super) const INVALID_PARAMETER: u8 = 6;

/// Transfer syntaxes that are kept of one context; the standard defines about 60.
const SYNTAXES_MAX: usize = 256;

/// Where the reserved bytes and AE titles stand in a whole A-ASSOCIATE PDU that come back unchanged in the answer.
const ECHO: std::ops::Range<usize> = 10..74;

/// The fixed part of an A-ASSOCIATE body, before its items.
const FIXED: usize = 68;

/// The bytes are not the PDU that their type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// The provider's reason to abort on a PDU that has no place here.
pub(super) fn misplaced(kind: u8) -> u8 {
    if (ASSOCIATE_RQ..=ABORT).contains(&kind) {
        UNEXPECTED_PDU
    } else {
        UNRECOGNIZED_PDU
    }
}

pub(super) fn abort(source: u8, reason: u8) -> [u8; 10] {
    [ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason]
}

pub(super) fn reject(rejection: Rejection) -> [u8; 10] {
    let Rejection { result, source, reason } = rejection;
    [ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason]
}

pub(super) fn release(kind: u8) -> [u8; 10] {
    [kind, 0, 0, 0, 0, 4, 0, 0, 0, 0]
}

/// Source and reason of an A-ABORT body, zeros when it is cut.
pub(super) fn abort_words(body: &[u8]) -> (u8, u8) {
    (
        body.get(2).copied().unwrap_or_default(),
        body.get(3).copied().unwrap_or_default(),
    )
}

pub(super) fn rejection(body: &[u8]) -> Rejection {
    let at = |index: usize| body.get(index).copied().unwrap_or_default();
    Rejection::of(at(1), at(2), at(3))
}

/// The items of a variable field: type, reserved byte, 16-bit length, value (PS3.8 9.3.2.1).
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.0);
        let Some((&[kind, _, high, low], rest)) = whole.split_first_chunk() else {
            return Some(Err(Malformed));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(length) else {
            return Some(Err(Malformed));
        };
        self.0 = rest;
        Some(Ok((kind, value)))
    }
}

/// Parses the body of an A-ASSOCIATE-RQ. Unknown items and sub-items are ignored. A context id that comes twice is
/// malformed, for its answer would be ambiguous; an even id is refused alone.
pub(super) fn parse_request(body: &[u8]) -> Result<Request, Malformed> {
    let (fixed, items) = body.split_first_chunk::<FIXED>().ok_or(Malformed)?;
    let mut echo = [0; 64];
    echo.copy_from_slice(&fixed[4..]);
    let mut request = Request {
        called: title(&fixed[4..20]),
        calling: title(&fixed[20..36]),
        application_context: String::new(),
        protocol_version: u16::from_be_bytes([fixed[0], fixed[1]]),
        echo,
        ..Request::default()
    };
    let mut seen = [false; 256];
    for item in Items(items) {
        match item? {
            (0x10, value) => request.application_context = printable(value, 64),
            (0x20, value) => {
                let id = *value.first().ok_or(Malformed)?;
                if std::mem::replace(&mut seen[usize::from(id)], true) {
                    return Err(Malformed);
                }
                proposed(id, value.get(4..).ok_or(Malformed)?, &mut request)?;
            }
            (0x50, value) => user_information(value, &mut request)?,
            _ => {}
        }
    }
    Ok(request)
}

fn proposed(id: u8, sub_items: &[u8], request: &mut Request) -> Result<(), Malformed> {
    let mut abstract_syntax = None;
    let mut transfer_syntaxes = Vec::new();
    for item in Items(sub_items) {
        match item? {
            (0x30, value) if abstract_syntax.is_none() => abstract_syntax = uid(value),
            (0x40, value) if transfer_syntaxes.len() < SYNTAXES_MAX => transfer_syntaxes.extend(uid(value)),
            _ => {}
        }
    }
    match abstract_syntax {
        _ if id.is_multiple_of(2) => request.unusable.push((id, 2)),
        None => request.unusable.push((id, 3)),
        Some(_) if transfer_syntaxes.is_empty() => request.unusable.push((id, 4)),
        Some(abstract_syntax) => request.contexts.push(Proposed {
            id,
            abstract_syntax,
            transfer_syntaxes,
        }),
    }
    Ok(())
}

fn user_information(sub_items: &[u8], request: &mut Request) -> Result<(), Malformed> {
    for item in Items(sub_items) {
        match item? {
            (0x51, value) => request.max_pdu = value.first_chunk().map_or(0, |b| u32::from_be_bytes(*b)),
            (0x52, value) => request.implementation_class_uid = printable(value, 64),
            (0x53, value) => request.window = invoked(value),
            (0x54, value) if request.roles.len() < CONTEXTS_MAX => request.roles.extend(role(value)),
            (0x55, value) => request.implementation_version = printable(value, 16),
            (0x58, value) => request.user_identity_type = value.first().copied(),
            _ => {}
        }
    }
    Ok(())
}

/// The operations invoked of an asynchronous operations window sub-item (PS3.7 D.3.3.3).
fn invoked(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A role selection sub-item; `None` when it is not readable, which is the same as not sent.
fn role(value: &[u8]) -> Option<RoleSelection> {
    let (length, rest) = value.split_first_chunk()?;
    let (class, roles) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let [scu, scp, ..] = roles else { return None };
    Some(RoleSelection {
        class: uid(class)?,
        scu: *scu == 1,
        scp: *scp == 1,
    })
}

/// What an A-ASSOCIATE-AC says: results by id (result, transfer syntax), and the peer's own words.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) results: Vec<(u8, u8, Option<Uid>)>,
    pub(super) max_pdu: u32,
    pub(super) implementation_class_uid: String,
    pub(super) implementation_version: String,
    pub(super) window: Option<u16>,
    pub(super) roles: Vec<RoleSelection>,
}

/// Parses the body of an A-ASSOCIATE-AC. Unknown items are ignored, nothing but the fixed part is required.
pub(super) fn parse_answer(body: &[u8]) -> Result<Answer, Malformed> {
    let (_, items) = body.split_first_chunk::<FIXED>().ok_or(Malformed)?;
    let mut answer = Answer {
        results: Vec::new(),
        max_pdu: 0,
        implementation_class_uid: String::new(),
        implementation_version: String::new(),
        window: None,
        roles: Vec::new(),
    };
    for item in Items(items) {
        match item? {
            (0x21, value) => {
                let Some((&[id, _, result, _], sub_items)) = value.split_first_chunk() else {
                    return Err(Malformed);
                };
                let syntax = Items(sub_items).find_map(|item| item.ok().filter(|(kind, _)| *kind == 0x40));
                answer
                    .results
                    .push((id, result, syntax.and_then(|(_, value)| uid(value))));
            }
            (0x50, value) => {
                for item in Items(value) {
                    match item? {
                        (0x51, value) => answer.max_pdu = value.first_chunk().map_or(0, |b| u32::from_be_bytes(*b)),
                        (0x52, value) => answer.implementation_class_uid = printable(value, 64),
                        (0x53, value) => answer.window = invoked(value),
                        (0x54, value) if answer.roles.len() < CONTEXTS_MAX => answer.roles.extend(role(value)),
                        (0x55, value) => answer.implementation_version = printable(value, 16),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// The A-ASSOCIATE-AC for a request, whose reserved bytes and AE titles it sends back as they came.
/// `roles` answers the peer's role selections.
pub(super) fn accept(request: &Request, results: &[Context], roles: &[RoleSelection], local: &Local) -> Vec<u8> {
    let judged = results.iter().map(|context| match &context.result {
        Ok(syntax) => (context.id, 0, syntax.as_str()),
        Err(reason) => (context.id, *reason, NOT_SIGNIFICANT),
    });
    let unusable = request
        .unusable
        .iter()
        .map(|&(id, reason)| (id, reason, NOT_SIGNIFICANT));
    let presentation_contexts = judged
        .chain(unusable)
        .map(|(id, reason, syntax)| PresentationContextResult {
            id,
            reason: result_of(reason),
            transfer_syntax: syntax.to_owned(),
        })
        .collect();
    let mut bytes = written(&Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: "ECHOED".to_owned(),
        called_ae_title: "ECHOED".to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts,
        user_variables: our_words(local, granted(request, local), roles),
    }));
    bytes[ECHO].copy_from_slice(&request.echo);
    bytes
}

/// The transfer syntax of a refused context, which has no meaning (PS3.8 9.3.3.2) but must stand there.
const NOT_SIGNIFICANT: &str = "1.2.840.10008.1.2";

fn result_of(reason: u8) -> PresentationContextResultReason {
    match reason {
        0 => PresentationContextResultReason::Acceptance,
        1 => PresentationContextResultReason::UserRejection,
        3 => PresentationContextResultReason::AbstractSyntaxNotSupported,
        4 => PresentationContextResultReason::TransferSyntaxesNotSupported,
        _ => PresentationContextResultReason::NoReason,
    }
}

/// The A-ASSOCIATE-RQ that proposes these contexts with ids 1, 3, 5 and so on.
pub(super) fn request(
    (calling, called): (&AeTitle, &AeTitle),
    contexts: &[Proposed],
    roles: &[RoleSelection],
    local: &Local,
) -> Vec<u8> {
    written(&Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.as_str().to_owned(),
        called_ae_title: called.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: contexts
            .iter()
            .map(|context| PresentationContextProposed {
                id: context.id,
                abstract_syntax: context.abstract_syntax.as_str().to_owned(),
                transfer_syntaxes: context
                    .transfer_syntaxes
                    .iter()
                    .map(|s| s.as_str().to_owned())
                    .collect(),
            })
            .collect(),
        user_variables: our_words(local, local.window, roles),
    }))
}

/// What an acceptor grants: never more than was asked for, and nothing unasked.
pub(super) fn granted(request: &Request, local: &Local) -> u16 {
    match request.window {
        None => 1,
        Some(0) => local.window,
        Some(asked) => asked.min(local.window),
    }
}

/// What a requestor got: a peer that leaves the item out allows one operation (PS3.7 D.3.3.3).
pub(super) fn got(answer: &Answer, local: &Local) -> u16 {
    match answer.window {
        None => 1,
        Some(0) => local.window,
        Some(allowed) => allowed.min(local.window),
    }
}

fn our_words(local: &Local, window: u16, roles: &[RoleSelection]) -> Vec<UserVariableItem> {
    let mut words = vec![
        UserVariableItem::MaxLength(local.max_pdu),
        UserVariableItem::ImplementationClassUID(local.implementation_class_uid.as_str().to_owned()),
    ];
    if window > 1 {
        // Operations invoked, and performed: neither side of ours is ever asked for more than one.
        let [high, low] = window.to_be_bytes();
        words.push(UserVariableItem::Unknown(ASYNCHRONOUS, vec![high, low, 0, 1]));
    }
    let version = printable(local.implementation_version.as_bytes(), 16);
    words.push(UserVariableItem::ImplementationVersionName(version));
    words.extend(roles.iter().map(|role| {
        let (scu, scp) = (role.scu, role.scp);
        UserVariableItem::ScuScpRoleSelectionSubItem(role.class.as_str().to_owned(), RequestorRoles { scu, scp })
    }));
    words
}

/// The sub-item of the asynchronous operations window.
const ASYNCHRONOUS: u8 = 0x53;

fn written(pdu: &Pdu) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 << 10);
    // Writing to memory cannot fail, and every text in it is a checked name of printable ASCII whose length fits its item.
    write_pdu(&mut bytes, pdu).expect("an association PDU of checked names can be written");
    bytes
}

/// The peer of an accepted request.
pub(super) fn peer_of(request: &Request) -> Peer {
    Peer {
        called: request.called.clone(),
        calling: request.calling.clone(),
        max_pdu: request.max_pdu,
        implementation_class_uid: request.implementation_class_uid.clone(),
        implementation_version: request.implementation_version.clone(),
    }
}

fn title(field: &[u8]) -> Option<AeTitle> {
    // Some peers end the title with NUL and leave what was in their memory behind it, text or not.
    let part = field.split(|byte| *byte == 0).find(|part| !part.is_empty())?;
    AeTitle::parse(std::str::from_utf8(part).ok()?).ok()
}

fn uid(value: &[u8]) -> Option<Uid> {
    Uid::parse(std::str::from_utf8(value).ok()?).ok()
}

/// Text for logs and listings: printable ASCII, trimmed, cut.
fn printable(value: &[u8], longest: usize) -> String {
    let seen = value.iter().filter(|byte| (0x20..0x7f).contains(*byte)).take(longest);
    let text: String = seen.map(|&byte| char::from(byte)).collect();
    text.trim().to_owned()
}
