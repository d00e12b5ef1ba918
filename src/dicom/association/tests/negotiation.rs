//! Requests and answers as odd peers write them.
use super::*;
use dicom_ul::pdu::{Pdu, PresentationContextResultReason, read_pdu};
use pdu::{Malformed, parse_answer, parse_request};

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&[kind, 0][..], &length.to_be_bytes(), value].concat()
}

fn context(id: u8, sub_items: &[Vec<u8>]) -> Vec<u8> {
    item(0x20, &[&[id, 0, 0, 0][..], &sub_items.concat()].concat())
}

/// The body of an A-ASSOCIATE-RQ or -AC.
fn body(called: &[u8; 16], calling: &[u8; 16], items: &[Vec<u8>]) -> Vec<u8> {
    [&[0, 1, 0, 0][..], called, calling, &[7; 32], &items.concat()].concat()
}

fn usual(items: &[Vec<u8>]) -> Result<Request, Malformed> {
    parse_request(&body(b"BOX             ", b"CT1             ", items))
}

#[test]
fn odd_but_harmless_requests_are_understood() {
    let user = item(
        0x50,
        &[
            item(0x51, &[0, 0, 0x40, 0]),
            item(0x52, b"1.2.3"),
            item(0x53, &[0, 0, 0, 0]),
            item(0x54, &[&[0, 7][..], b"1.2.840", &[1, 1]].concat()),
            item(0x55, b"VERSION_IS_TOO_LONG_FOR_IT"),
            item(0x58, &[2, 1, 0, 1, b'u', 0, 1, b'p']),
            item(0x77, b"unknown sub-item"),
        ]
        .concat(),
    );
    let items = [
        item(0x99, b"unknown item"),
        item(0x10, b"1.2.840.10008.3.1.1.1\0"),
        context(
            1,
            &[
                item(0x30, b"1.2.840.10008.5.1.4.1.1.2\0"),
                item(0x40, b"1.2.840.10008.1.2 "),
            ],
        ),
        context(
            3,
            &[
                item(0x30, b"1.2.03.004"),
                item(0x31, b"?"),
                item(0x40, b"junk"),
                item(0x40, b"1.2.840.10008.1.2.1"),
            ],
        ),
        user,
    ];
    let request = parse_request(&body(b"  BOX\0garbage\0\0\0", b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", &items)).unwrap();
    assert_eq!(request.called, Some(title("BOX")));
    assert_eq!(request.calling, Some(title("CT1")));
    let leftovers = b"CT1\0\xCC\xCC\xCC\xCC\xCC\xCC\xCC\xCC\xCC\xCC\xCC\xCC";
    let request_of_memory = parse_request(&body(leftovers, leftovers, &items)).unwrap();
    assert_eq!(request_of_memory.called, Some(title("CT1")));
    assert_eq!(request.application_context, APPLICATION_CONTEXT);
    assert_eq!(request.contexts[0].abstract_syntax, uid(CT));
    assert_eq!(request.contexts[0].transfer_syntaxes, [uid(IMPLICIT)]);
    assert_eq!(request.contexts[1].abstract_syntax, uid("1.2.03.004"));
    assert_eq!(request.contexts[1].transfer_syntaxes, [uid(EXPLICIT)]);
    assert_eq!((request.max_pdu, request.user_identity_type), (16_384, Some(2)));
    assert_eq!(request.implementation_class_uid, "1.2.3");
    assert_eq!(request.implementation_version, "VERSION_IS_TOO_L");
    assert_eq!(
        request.roles,
        [RoleSelection {
            class: uid("1.2.840"),
            scu: true,
            scp: true
        }]
    );
    assert!(request.speaks_version_1());
}

#[test]
fn what_is_no_ae_title_is_none() {
    let empty = parse_request(&body(&[b' '; 16], &[0; 16], &[])).unwrap();
    assert_eq!((empty.called, empty.calling), (None, None));
    let strange = parse_request(&body(b"A\\B             ", &[0xe9; 16], &[])).unwrap();
    assert_eq!((strange.called, strange.calling), (None, None));
}

#[test]
fn contexts_that_cannot_be_judged_are_refused_alone() {
    let (class, syntax) = (item(0x30, CT.as_bytes()), item(0x40, EXPLICIT.as_bytes()));
    let request = usual(&[
        context(2, &[class.clone(), syntax.clone()]),
        context(3, std::slice::from_ref(&class)),
        context(5, &[item(0x30, b"../../x"), syntax.clone()]),
        context(7, &[class.clone(), syntax.clone()]),
    ]);
    let request = request.unwrap();
    assert_eq!(request.unusable, [(2, 2), (3, 4), (5, 3)]);
    assert_eq!(request.contexts.len(), 1);

    let answer = pdu::accept(&request, &accept_all(&request), &[], &local(0));
    let answer = parse_answer(&answer[6..]).unwrap();
    let results: Vec<(u8, u8)> = answer.results.iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(results, [(7, 0), (2, 2), (3, 4), (5, 3)]);
}

#[test]
fn malformed_requests_are_told() {
    let (class, syntax) = (item(0x30, CT.as_bytes()), item(0x40, EXPLICIT.as_bytes()));
    let twice = [
        context(1, &[class.clone(), syntax.clone()]),
        context(1, &[class, syntax]),
    ];
    assert_eq!(usual(&twice).err(), Some(Malformed), "an id that comes twice");
    assert_eq!(usual(&[item(0x20, &[1, 0])]).err(), Some(Malformed), "a cut context");
    assert_eq!(
        usual(&[vec![0x10, 0, 0, 9, 1]]).err(),
        Some(Malformed),
        "an item over the end"
    );
    assert_eq!(usual(&[vec![0x10, 0]]).err(), Some(Malformed), "a cut item header");
    assert_eq!(parse_request(&[0; 67]).err(), Some(Malformed), "a cut fixed part");
}

#[tokio::test]
async fn a_request_of_128_contexts_with_many_syntaxes_is_served() {
    let syntaxes: Vec<Uid> = (0..40).map(|n| uid(&format!("1.2.840.10008.1.2.4.{n}"))).collect();
    let contexts: Vec<(Uid, Vec<Uid>)> = (0..128)
        .map(|n| (uid(&format!("{CT}.{n}")), syntaxes.clone()))
        .collect();
    let (a, b) = duplex(4_096);
    let (calling, called) = (title("CT1"), title("BOX"));
    let words = local(0);
    let requesting = Association::request(a, &calling, &called, &contexts, &words, timeouts());
    let (requestor, acceptor) = tokio::join!(requesting, acceptor(b, 0));
    let (requestor, acceptor) = (requestor.unwrap(), acceptor.unwrap());
    assert_eq!(requestor.contexts(), acceptor.contexts());
    assert_eq!(requestor.accepted(&uid(&format!("{CT}.127")), &syntaxes[0]), Some(255));
}

#[test]
fn our_answer_reads_back_by_another_parser_and_echoes_the_reserved_bytes() {
    let request = usual(&[context(
        1,
        &[item(0x30, CT.as_bytes()), item(0x40, EXPLICIT.as_bytes())],
    )])
    .unwrap();
    let refused = Context {
        id: 1,
        abstract_syntax: uid(CT),
        result: Err(3),
    };
    let bytes = pdu::accept(&request, &[refused], &[], &local(131_072));
    assert_eq!(bytes[10..74], request.echo);
    assert_eq!(bytes[42..74], [7; 32]);
    let Ok(Some(Pdu::AssociationAC(answer))) = read_pdu(bytes.as_slice(), 131_072, true) else {
        panic!("an A-ASSOCIATE-AC");
    };
    assert_eq!(answer.protocol_version, 1);
    let reason = &answer.presentation_contexts[0].reason;
    assert_eq!(*reason, PresentationContextResultReason::AbstractSyntaxNotSupported);
}

#[tokio::test]
async fn answers_with_holes_are_judged_context_by_context() {
    let results = [
        (1, 0, Some(EXPLICIT)),
        (3, 0, None),
        (5, 0, Some("1.2.3")),
        (7, 4, None),
        (99, 0, Some(EXPLICIT)),
    ];
    let mut items = vec![item(0x66, b"unknown")];
    items.extend(results.map(|(id, result, syntax)| {
        let syntax = syntax.map(|syntax| item(0x40, syntax.as_bytes())).unwrap_or_default();
        item(0x21, &[&[id, 0, result, 0][..], &syntax].concat())
    }));
    let body = body(&[b' '; 16], &[b' '; 16], &items);
    let (a, mut raw) = duplex(64 << 10);
    let answering = async {
        let kinds = [pdu::ASSOCIATE_RQ];
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        wire::read_pdu(&mut raw, &kinds, 1 << 20, until, "").await.unwrap();
        let length = u32::try_from(body.len()).unwrap();
        raw.write_all(&[&[2, 0][..], &length.to_be_bytes(), &body].concat())
            .await
            .unwrap();
    };
    let contexts: Vec<(Uid, Vec<Uid>)> = (0..5)
        .map(|n| (uid(&format!("{CT}.{n}")), vec![uid(EXPLICIT)]))
        .collect();
    let (calling, called) = (title("A"), title("B"));
    let words = local(0);
    let requesting = Association::request(a, &calling, &called, &contexts, &words, timeouts());
    let (association, ()) = tokio::join!(requesting, answering);
    let association = association.unwrap();
    let results: Vec<Result<Uid, u8>> = association.contexts().iter().map(|c| c.result.clone()).collect();
    assert_eq!(results, [Ok(uid(EXPLICIT)), Ok(uid(EXPLICIT)), Err(2), Err(4), Err(2)]);
    assert_eq!(association.peer().max_pdu, 0, "not said: no limit");
}

proptest::proptest! {
    #[test]
    fn random_bodies_never_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 60..600)) {
        let _ = parse_request(&bytes);
        let _ = parse_answer(&bytes);
        // The same with items that look right.
        for (at, kind) in [(68, 0x20), (76, 0x30), (120, 0x40), (200, 0x50), (204, 0x54)] {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&[kind, 0, 0, 60]);
            }
        }
        let _ = parse_request(&bytes);
        let _ = parse_answer(&bytes);
    }
}
