//! Character sets against the standard's own examples (PS3.5 annexes H, I, J, K) and the shapes that devices send.
use super::value::{binary, strings};
use super::*;
use crate::dicom::syntax::Layout;
use dicom_core::VR;
use proptest::prelude::*;

fn charset(terms: &[&str]) -> Charset {
    Charset::of(&terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>())
}

/// Term values, bytes, text: read and, where the writer has a choice of its own, written back the same.
const NAMES: [(&[&str], &[u8], &str); 15] = [
    (&[], b"DOE^JANE", "DOE^JANE"),
    (&["ISO_IR 100"], b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
    (&["ISO_IR 101"], b"W\xB3adys\xB3aw", "Władysław"),
    (
        &["ISO_IR 144"],
        b"\xBB\xEE\xDA\xE1\xD5\xDC\xD1\xE3\xE0\xD3",
        "Люксембург",
    ),
    (&["ISO_IR 126"], b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"),
    (&["ISO_IR 148"], b"\xDD\xFE\xF0", "İşğ"),
    (&["ISO_IR 166"], b"\xA1\xD2", "กา"),
    (&["ISO_IR 203"], b"\xA4\xBC", "€Œ"),
    (
        &["ISO_IR 192"],
        "Wang^XiaoDong=王^小东".as_bytes(),
        "Wang^XiaoDong=王^小东",
    ),
    (&["GB18030"], b"Wang=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang=王^小东"),
    (&["GBK"], b"\x82\x5C^A", "俓^A"),
    (
        &["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        &["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        &["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        &["", "ISO 2022 IR 58"],
        b"Zhang^XiaoDong=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB",
        "Zhang^XiaoDong=张^小东",
    ),
];

#[test]
fn names_of_every_repertoire_are_read_and_written() {
    for (terms, bytes, text) in NAMES {
        let charset = charset(terms);
        let decoded = charset.decode(bytes, Form::Names);
        assert_eq!(
            (decoded.values, decoded.lossy),
            (vec![text.to_owned()], false),
            "{terms:?}"
        );
        assert_eq!(charset.encode(text, Form::Names).as_deref(), Ok(bytes), "{terms:?}");
        assert!(charset.is_known(), "{terms:?}");
    }
}

#[test]
fn second_bytes_that_look_like_delimiters_divide_nothing() {
    let kanji = charset(&["", "ISO 2022 IR 87"]);
    // 莉 is "h=", 五 is "8^" in JIS X 0208.
    let decoded = kanji.decode(b"\x1B$Bh=\x1B(B^\x1B$B8^\x1B(B\\B", Form::Names);
    assert_eq!(decoded.values, ["莉^五", "B"]);
    for terms in [&["GB18030"], &["GBK"]] {
        assert_eq!(
            charset(terms).decode(b"\x82\x5CA\\B", Form::Values).values,
            ["俓A", "B"]
        );
    }
}

#[test]
fn active_sets_end_at_delimiters() {
    let korean = charset(&["", "ISO 2022 IR 149", "ISO 2022 IR 100"]);
    // The Latin set is called, then reset by the delimiter: the first declared upper set answers.
    let decoded = korean.decode(b"\x1B-A\xE9^\x1B$)C\xC8\xAB", Form::Names);
    assert_eq!((decoded.values, decoded.lossy), (vec!["é^홍".to_owned()], false));
    let supplement = charset(&["ISO 2022 IR 6", "ISO 2022 IR 159"]);
    assert_eq!(
        supplement.decode(b"\x1B$(D\x30\x21\x1B(BA", Form::Values).values,
        ["丂A"]
    );
    let kanji = charset(&["", "ISO 2022 IR 87"]);
    assert_eq!(kanji.decode(b"\x1B$B;3\r\nED", Form::Text).values, ["山\r\nED"]);
    assert_eq!(
        kanji.encode("山\r\n田", Form::Text).unwrap(),
        b"\x1B$B;3\x1B(B\r\n\x1B$BED\x1B(B"
    );
    // In text of one value neither backslash nor caret resets.
    assert_eq!(korean.decode(b"\x1B-A\xE9\\^\xE9", Form::Text).values, ["é\\^é"]);
}

#[test]
fn shapes_of_the_field_are_read() {
    let table: [(&[&str], &[u8], &str); 7] = [
        (&["ISO IR 192"], "Muñoz".as_bytes(), "Muñoz"),
        (&["ISO 2022 IR 6", "ISO_IR 192"], "Muñoz".as_bytes(), "Muñoz"),
        (&["ISO 2022 IR 100"], b"M\xFCller", "Müller"),
        (&["iso-ir 100 "], b"M\xFCller", "Müller"),
        (&["", "ISO 2022 IR 149"], b"\xC8\xAB^\xB1\xE6\xB5\xBF", "홍^길동"),
        (&["ISO_IR 100"], b"O\x92Hara", "O’Hara"),
        (&["ISO_IR 13", "ISO 2022 IR 87"], b"\xD4=\x1B$B;3\x1B(J", "ﾔ=山"),
    ];
    for (terms, bytes, text) in table {
        let decoded = charset(terms).decode(bytes, Form::Names);
        assert_eq!(
            (decoded.values, decoded.lossy),
            (vec![text.to_owned()], false),
            "{terms:?}"
        );
    }
}

#[test]
fn what_a_set_cannot_say_is_marked_when_read_and_refused_when_written() {
    let table: [(&[&str], &[u8]); 4] = [
        (&[], b"M\xFCller"),
        (&["ISO_IR 192"], b"M\xFCller"),
        (&["ISO_IR 999"], b"M\xFCller"),
        (&["", "ISO 2022 IR 149"], b"\xC8"),
    ];
    for (terms, bytes) in table {
        let decoded = charset(terms).decode(bytes, Form::Names);
        assert!(decoded.lossy && decoded.values[0].contains('\u{FFFD}'), "{terms:?}");
    }
    assert!(!charset(&["ISO_IR 999"]).is_known() && charset(&["ISO_IR 192"]).is_utf8());
    let refused: [(&[&str], &str); 7] = [
        (&[], "é"),
        (&["ISO_IR 100"], "Ł"),
        (&["ISO_IR 100"], "’"),
        (&["ISO_IR 100"], "\x1B(B"),
        (&["ISO_IR 13"], "~"),
        (&["", "ISO 2022 IR 87"], "é"),
        (&["GBK"], "😀"),
    ];
    for (terms, text) in refused {
        assert_eq!(
            charset(terms).encode(text, Form::Names),
            Err(Unencodable),
            "{terms:?} {text}"
        );
    }
}

#[test]
fn the_yen_sign_stays_a_delimiter_of_values() {
    let japanese = charset(&["ISO_IR 13"]);
    assert_eq!(japanese.decode(b"A\\B", Form::Values).values, ["A", "B"]);
    assert_eq!(japanese.decode(b"A\\B", Form::Text).values, ["A¥B"]);
    assert_eq!(japanese.encode("A\\B", Form::Values).unwrap(), b"A\\B");
    assert_eq!(japanese.encode("A¥B", Form::Text).unwrap(), b"A\\B");
    assert_eq!(japanese.encode("A¥B", Form::Values), Err(Unencodable));
}

#[test]
fn values_lose_their_padding_and_numbers_become_decimal() {
    let read =
        |vr, bytes: &[u8]| strings(vr, bytes, Layout::ExplicitLittle, &Charset::default()).map(|found| found.values);
    let text = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
    assert_eq!(read(VR::LO, b" A \\ B "), text(&["A", "B"]));
    assert_eq!(read(VR::LT, b" A\\B "), text(&[" A\\B"]));
    assert_eq!(read(VR::UI, b"1.2\0"), text(&["1.2"]));
    assert_eq!(read(VR::DA, b"20260101"), text(&["20260101"]));
    assert_eq!(read(VR::LO, b""), text(&[]));
    assert_eq!(read(VR::LO, b"  "), text(&[]));
    assert_eq!(read(VR::LO, b"A\\\\B"), text(&["A", "", "B"]));
    assert_eq!(read(VR::OB, b"AB"), None);
    assert_eq!(read(VR::SS, &[0xFF, 0xFF, 1, 0, 9]), text(&["-1", "1"]));
    assert_eq!(read(VR::AT, &[0x10, 0, 0x20, 0]), text(&["(0010,0020)"]));
    let big = strings(VR::FD, &2.5f64.to_be_bytes(), Layout::ExplicitBig, &Charset::default());
    assert_eq!(big.map(|found| found.values), text(&["2.5"]));
    for (vr, number) in [
        (VR::US, "65535"),
        (VR::SL, "-7"),
        (VR::UV, "1"),
        (VR::FL, "0.1"),
        (VR::AT, "(0010,0020)"),
    ] {
        let bytes = binary(vr, number).unwrap_or_else(|| panic!("{vr}"));
        assert_eq!(read(vr, &bytes), text(&[number]));
    }
    assert_eq!(
        (binary(VR::US, "-1"), binary(VR::AT, "ääääää"), binary(VR::LO, "1")),
        (None, None, None)
    );
}

#[test]
fn the_table_of_the_supplement_is_the_decoders_and_all_of_it_is_written() {
    let japanese = charset(&["", "ISO 2022 IR 159"]);
    let mut count = 0;
    for (row, cell) in (0x21..=0x7E).flat_map(|row| (0x21..=0x7E).map(move |cell| (row, cell))) {
        let bytes = [0x8F, row | 0x80, cell | 0x80];
        let decoded = encoding_rs::EUC_JP.decode_without_bom_handling_and_without_replacement(&bytes);
        let Some(text) = decoded.map(String::from) else {
            continue;
        };
        count += 1;
        let wanted = [b"\x1B$(D".as_slice(), &[row, cell], b"\x1B(B"].concat();
        assert_eq!(japanese.encode(&text, Form::Values), Ok(wanted), "{row:X}{cell:X}");
    }
    assert_eq!(count, 6067, "the characters of JIS X 0212-1990");
}

#[test]
fn kanji_signs_are_those_of_the_standard_not_of_windows() {
    let kanji = charset(&["", "ISO 2022 IR 87"]);
    for (standard, windows) in
        ["〜～", "‖∥", "−－", "¢￠", "£￡", "¬￢"].map(|pair| pair.split_at(pair.chars().next().unwrap().len_utf8()))
    {
        let bytes = kanji.encode(standard, Form::Text).unwrap();
        assert_eq!(kanji.encode(windows, Form::Text), Ok(bytes.clone()), "{windows}");
        assert_eq!(kanji.decode(&bytes, Form::Text).values, [standard]);
    }
}

#[test]
fn sets_are_said_in_the_standards_words() {
    let table: [(&[&str], &[&str]); 19] = [
        (&[], &[]),
        (&["ISO_IR 6"], &[]),
        (&["ISO_IR 100"], &["ISO_IR 100"]),
        (&["iso_ir 100 "], &["ISO_IR 100"]),
        (&["ISO-8859-15"], &["ISO_IR 203"]),
        (&["TIS-620"], &["ISO_IR 166"]),
        (&["ISO 2022 IR 100"], &["ISO_IR 100"]),
        (&["ISO IR 192"], &["ISO_IR 192"]),
        (&["UTF-8"], &["ISO_IR 192"]),
        (&["ISO 2022 IR 6", "ISO_IR 192"], &["ISO_IR 192"]),
        (&["ISO_IR 149"], &["", "ISO 2022 IR 149"]),
        (&["ISO 2022 IR 87"], &["", "ISO 2022 IR 87"]),
        (&["ISO 2022 IR 6", "ISO 2022 IR 87"], &["", "ISO 2022 IR 87"]),
        (&["ISO_IR 13", "ISO 2022 IR 87"], &["ISO 2022 IR 13", "ISO 2022 IR 87"]),
        (
            &["ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"],
            &["ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"],
        ),
        (&["ISO 2022 IR 6, IS"], &[]),
        (&["GB2312"], &["GB18030"]),
        (&["gbk"], &["GBK"]),
        (&["", "ISO_IR 58"], &["", "ISO 2022 IR 58"]),
    ];
    for (written, wanted) in table {
        assert_eq!(charset(written).terms().unwrap(), wanted, "{written:?}");
    }
    let is_said = |terms: &[&str]| {
        let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
        Charset::of(&terms).is_said_by(&terms)
    };
    for right in [
        &[][..],
        &[""],
        &["ISO_IR 6"],
        &["ISO_IR 100 "],
        &["ISO 2022 IR 6", "ISO 2022 IR 87"],
        &["", "ISO 2022 IR 149"],
        &["GBK"],
    ] {
        assert!(is_said(right), "{right:?}");
    }
    for wrong in [
        &["ISO IR 100"][..],
        &["ISO 2022 IR 100"],
        &["iso_ir 192"],
        &["ISO_IR 149"],
        &["ISO_IR 13", "ISO 2022 IR 87"],
        &["ISO_IR 999"],
    ] {
        assert!(!is_said(wrong), "{wrong:?}");
    }
    for name in Charset::NAMES {
        assert!(Charset::named(name).is_some(), "{name}");
    }
    assert_eq!(Charset::named("SHIFT_JIS").unwrap().terms(), None);
    assert_eq!(Charset::named("ISO_IR 102"), None);
}

#[test]
fn what_strict_readers_read_otherwise_is_called_loose() {
    let table: [(&[&str], &[u8], bool); 9] = [
        (&["ISO_IR 100"], b"M\xFCller", false),
        (&["ISO_IR 100"], b"O\x92Hara", true),
        (&["", "ISO 2022 IR 149"], b"\x1B$)C\xC8\xAB", false),
        (&["", "ISO 2022 IR 149"], b"\xC8\xAB", true),
        (&["", "ISO 2022 IR 149"], b"\x1B$)C\xC8\xAB^\xC8\xAB", true),
        (&["ISO_IR 100"], b"\x1B$B;3\x1B(B", true),
        (&["", "ISO 2022 IR 87"], b"\x1B$B;3\x1B(J", true),
        (&["ISO 2022 IR 13", "ISO 2022 IR 87"], b"\xD4\x1B$B;3\x1B(J", false),
        (&["ISO 2022 IR 100", "ISO 2022 IR 126"], b"\xE9\x1B-F\xE9", false),
    ];
    for (terms, bytes, loose) in table {
        let decoded = charset(terms).decode(bytes, Form::Names);
        assert_eq!((decoded.lossy, decoded.loose), (false, loose), "{terms:?} {bytes:?}");
    }
}

const TERMS: [&str; 20] = [
    "",
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 109",
    "ISO_IR 110",
    "ISO_IR 144",
    "ISO_IR 127",
    "ISO_IR 126",
    "ISO_IR 138",
    "ISO_IR 148",
    "ISO_IR 203",
    "ISO_IR 13",
    "ISO_IR 166",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    "ISO 2022 IR 87",
    "ISO 2022 IR 159",
    "ISO 2022 IR 149",
    "ISO 2022 IR 58",
];

proptest! {
    #[test]
    fn any_bytes_are_decoded_and_what_is_encoded_reads_the_same(
        terms in prop::collection::vec(prop::sample::select(TERMS.to_vec()), 0..4),
        noise in any::<Vec<u8>>(),
        text in "[A-Za-zéÜŁжαßﾔ山田홍길王小é^= ]{0,12}",
        form in prop::sample::select(vec![Form::Values, Form::Names, Form::Text]),
    ) {
        let charset = charset(&terms);
        let decoded = charset.decode(&noise, form);
        let is_marked = decoded.values.iter().any(|value| value.contains('\u{FFFD}'));
        prop_assert!(is_marked || !decoded.lossy);
        if let Ok(bytes) = charset.encode(&text, form) {
            let back = charset.decode(&bytes, form);
            prop_assert_eq!((back.values, back.lossy), (vec![text], false));
        }
    }
}
