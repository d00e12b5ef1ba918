//! Seeds that are made rather than committed: small right inputs of every kind.
use super::heads;
use dicom_core::{Tag, VR};
use std::io::Write;
use waystation::base::names::{AeTitle, Uid};
use waystation::dicom::dimse::{Command, Priority, StoreRq, StoreRsp};
use waystation::dicom::edit::{Edit, Plan};
use waystation::dicom::part10::FileMeta;
use waystation::dicom::path::Path;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn element(out: &mut Vec<u8>, tag: (u16, u16), vr: &str, value: &[u8], explicit: bool) {
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    let length = u32::try_from(value.len()).expect("short");
    if explicit {
        out.extend(vr.as_bytes());
        if matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT") {
            out.extend([0, 0]);
            out.extend(length.to_le_bytes());
        } else {
            out.extend(u16::try_from(value.len()).expect("short").to_le_bytes());
        }
    } else {
        out.extend(length.to_le_bytes());
    }
    out.extend(value);
}

/// A small data set with a nested sequence, in explicit or implicit little endian.
pub fn data_set(explicit: bool) -> Vec<u8> {
    let mut inner = Vec::new();
    element(&mut inner, (0x0040, 0x0007), "LO", b"STEP", explicit);
    let mut items = vec![0xfe, 0xff, 0x00, 0xe0];
    items.extend(u32::try_from(inner.len()).expect("short").to_le_bytes());
    items.extend(&inner);
    let mut out = Vec::new();
    element(&mut out, (0x0008, 0x0005), "CS", b"ISO_IR 100", explicit);
    element(
        &mut out,
        (0x0008, 0x0016),
        "UI",
        b"1.2.840.10008.5.1.4.1.1.2\0",
        explicit,
    );
    element(&mut out, (0x0008, 0x0018), "UI", b"1.2.3\0", explicit);
    element(&mut out, (0x0008, 0x1030), "LO", b"HEAD", explicit);
    element(&mut out, (0x0009, 0x0010), "LO", b"ACME", explicit);
    element(&mut out, (0x0009, 0x1001), "UN", b"\x01\x02", explicit);
    element(&mut out, (0x0010, 0x0010), "PN", b"DOE^JANE", explicit);
    element(&mut out, (0x0010, 0x0020), "LO", b"4711", explicit);
    element(&mut out, (0x0020, 0x000d), "UI", b"1.2.4\0", explicit);
    element(&mut out, (0x0040, 0x0275), "SQ", &items, explicit);
    element(&mut out, (0x7fe0, 0x0010), "OW", &[1, 2, 3, 4], explicit);
    out
}

/// The same in explicit big endian, without the sequence.
fn data_set_big() -> Vec<u8> {
    let mut out = Vec::new();
    for (number, vr, value) in [
        (0x16_u16, "UI", "1.2.840.1\0"),
        (0x18, "UI", "1.2.3\0"),
        (0x60, "CS", "CT"),
    ] {
        out.extend(8_u16.to_be_bytes());
        out.extend(number.to_be_bytes());
        out.extend(vr.as_bytes());
        out.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
        out.extend(value.as_bytes());
    }
    out
}

fn encapsulated() -> Vec<u8> {
    let mut out = data_set(true);
    out.truncate(out.len() - 16);
    out.extend(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x02\0\0\0ab\xfe\xff\xdd\xe0\0\0\0\0");
    out
}

fn deflated() -> Vec<u8> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&data_set(true)).expect("memory");
    deflate.finish().expect("memory")
}

fn store_rq() -> Command {
    Command::StoreRq(StoreRq {
        message_id: 2,
        priority: Priority::High,
        sop_class: Some(Uid::known(CT)),
        sop_instance: Some(Uid::known("1.2.3")),
        move_originator: Some((AeTitle::parse("MOVER").expect("a title"), 3)),
        has_data_set: true,
    })
}

fn commands() -> Vec<Vec<u8>> {
    let answer = StoreRsp {
        message_id: 2,
        status: 0xA700,
        sop_class: Some(Uid::known(CT)),
        sop_instance: Some(Uid::known("1.2.3")),
        comment: Some("disk low".to_owned()),
    };
    let all = [
        Command::EchoRq { message_id: 1 },
        Command::EchoRsp {
            message_id: 1,
            status: 0,
        },
        store_rq(),
        Command::StoreRsp(answer),
        Command::Cancel { message_id: 1 },
        Command::response_to(0x20, 1, None, 0x0211),
    ];
    all.iter().map(Command::write).collect()
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    out.extend(body);
    out
}

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    out.extend(body);
    out
}

fn pdata(context: u8, flags: u8, fragment: &[u8]) -> Vec<u8> {
    let mut body = u32::try_from(fragment.len() + 2).expect("short").to_be_bytes().to_vec();
    body.extend([context, flags]);
    body.extend(fragment);
    pdu(4, &body)
}

/// An A-ASSOCIATE-RQ or -AC with two contexts.
fn associate(kind: u8) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"WAYSTATION      CT1             ");
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for (id, class, syntax) in [(1, CT, heads::EXPLICIT), (3, "1.2.840.10008.1.1", heads::IMPLICIT)] {
        let mut context = vec![id, 0, 0, 0];
        if kind == 1 {
            context.extend(item(0x30, class.as_bytes()));
        }
        context.extend(item(0x40, syntax.as_bytes()));
        body.extend(item(if kind == 1 { 0x20 } else { 0x21 }, &context));
    }
    let mut user = item(0x51, &16_384_u32.to_be_bytes());
    user.extend(item(0x52, b"1.2.3"));
    user.extend(item(0x54, b"\x00\x051.2.3\x01\x00"));
    user.extend(item(0x55, b"FUZZ"));
    user.extend(item(0x58, b"\x01\x01\x00\x02ab\x00\x00"));
    body.extend(item(0x50, &user));
    pdu(kind, &body)
}

fn conversations(kind: u8) -> Vec<Vec<u8>> {
    let mut echo = associate(kind);
    let commands = commands();
    echo.extend(pdata(3, 3, &commands[usize::from(kind == 2)]));
    let mut store = echo.clone();
    store.extend(pdata(1, 3, &commands[2]));
    store.extend(pdata(1, 0, &data_set(true)[..60]));
    store.extend(pdata(1, 2, &data_set(true)[60..]));
    let release = pdu(if kind == 1 { 5 } else { 6 }, &[0; 4]);
    store.extend(&release);
    echo.extend(&release);
    let all = [associate(kind), echo, store, pdu(3, &[0, 1, 1, 7]), pdu(7, &[0; 4])];
    let stepped = |all: Vec<u8>, step: u8| [vec![step], all].concat();
    all.iter()
        .flat_map(|said| [stepped(said.clone(), 0), stepped(said.clone(), 255)])
        .collect()
}

fn plans() -> Vec<Vec<u8>> {
    let set = Edit::Set {
        path: Path::parse("ScheduledProcedureStepSequence[0].Modality").expect("a path"),
        vr: VR::CS,
        value: b"CT".to_vec(),
    };
    let remove = Edit::Remove {
        path: Path::tag(Tag(0x0010, 0x0010)),
    };
    let plan = Plan {
        edits: vec![set, remove],
        stamp: None,
    };
    vec![plan.encode(), Vec::new()]
}

fn part10_files() -> Vec<Vec<u8>> {
    let meta = FileMeta {
        sop_class: Uid::known(CT),
        sop_instance: Uid::known("1.2.3"),
        transfer_syntax: Uid::known(heads::EXPLICIT),
        source_ae: AeTitle::parse("CT1").ok(),
        private: Some((Uid::known("1.2.3.4"), vec![7; 32])),
    };
    let whole = [meta.write(), data_set(true)].concat();
    vec![meta.write(), whole]
}

fn stepped(data: Vec<u8>) -> Vec<Vec<u8>> {
    vec![[vec![0], data.clone()].concat(), [vec![255], data].concat()]
}

fn edits() -> Vec<Vec<u8>> {
    let start = |kind: u8, which: u8, data: Vec<u8>| [vec![kind, which, 10], data].concat();
    let mut all = Vec::new();
    for which in [0, 1, 2, 3, 4, 128, 129, 131, 132, 134] {
        all.push(start(0, which, data_set(false)));
        all.push(start(1, which, data_set(true)));
        all.push(start(2, which, data_set_big()));
    }
    all
}

/// A body of a record with plausible names and lengths.
fn records() -> Vec<Vec<u8>> {
    let short = |text: &str| [vec![text.len() as u8], text.as_bytes().to_vec()].concat();
    let mut identity = vec![7; 16];
    for text in ["ct1", "CT1", "WAYSTATION", CT, "1.2.3", "1.2.4", heads::EXPLICIT] {
        identity.extend(short(text));
    }
    identity.extend(vec![0; 16 + 32 + 8 + 8]);
    let mut instance = identity.clone();
    instance.push(1);
    instance.extend(1_u32.to_be_bytes());
    instance.extend(vec![0; 24]);
    vec![
        identity,
        instance,
        vec![0; 12],
        vec![0; 20],
        vec![0; 21],
        vec![0; 60],
        b"{\"kind\":\"stored\"}".to_vec(),
    ]
}

/// What is not committed below `seeds/`.
pub fn made(target: &str) -> Vec<Vec<u8>> {
    match target {
        "association" => conversations(1),
        "answers" => conversations(2),
        "dimse" => commands(),
        "head_implicit" => stepped(data_set(false)),
        "head_explicit" => stepped(data_set(true)),
        "head_big" => stepped(data_set_big()),
        "head_encapsulated" => stepped(encapsulated()),
        "head_deflated" => stepped(deflated()),
        "inflate" => vec![data_set(true), encapsulated()],
        "edit" => edits(),
        "plan" => plans(),
        "part10" => part10_files(),
        "records" => records(),
        _ => Vec::new(),
    }
}
