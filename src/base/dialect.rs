//! What a peer speaks, by the first bytes that it says: a wrong port is the commonest mistake of a go-live, and its reason
//! should stand in the log by name. Pure; asked by the TLS side, by the upper layer's acceptor and by its requestor.

/// A protocol, known by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// A PDU of the upper layer (PS3.8 9.3): types 1 to 7, a reserved zero byte.
    Dicom,
    /// A TLS record (RFC 8446 5.1): handshake or alert, major version 3.
    Tls,
    /// An SSL 2 ClientHello, as systems of the nineties still send it.
    Ssl2,
    Http,
    Ssh,
    /// None of them.
    Unknown,
}

/// Bytes that are enough to tell.
pub const ENOUGH: usize = 4;

impl Dialect {
    /// What these first bytes are; `None` while more are needed. With `ENOUGH` bytes there is always an answer.
    #[must_use]
    pub fn of(first: &[u8]) -> Option<Self> {
        let words = HTTP
            .iter()
            .map(|word| (*word, Self::Http))
            .chain([(&b"SSH-"[..], Self::Ssh)]);
        for (word, dialect) in words {
            let known = first.len().min(word.len());
            if known > 0 && first[..known] == word[..known] {
                return (known == word.len()).then_some(dialect);
            }
        }
        match first {
            [] => None,
            [1..=7 | 0x15 | 0x16] => None,
            [1..=7, 0, ..] => Some(Self::Dicom),
            [0x15 | 0x16, 3, ..] => Some(Self::Tls),
            [0x80..=0xbf] | [0x80..=0xbf, _] => None,
            [0x80..=0xbf, _, 1, ..] => Some(Self::Ssl2),
            _ => Some(Self::Unknown),
        }
    }

    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Dicom => "plain DICOM",
            Self::Tls => "TLS",
            Self::Ssl2 => "SSL 2",
            Self::Http => "HTTP",
            Self::Ssh => "SSH",
            Self::Unknown => "a protocol that is not known here",
        }
    }
}

/// The beginnings of requests and of answers.
const HTTP: [&[u8]; 9] = [
    b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"CONN", b"DELE", b"PRI ", b"HTTP",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_first_bytes() {
        let cases: [(&[u8], Option<Dialect>); 17] = [
            (b"", None),
            (b"\x01", None),
            (b"\x01\0", Some(Dialect::Dicom)),
            (b"\x07\0\0\0\0\x04", Some(Dialect::Dicom)),
            (b"\x01\x07", Some(Dialect::Unknown)),
            (b"\x16", None),
            (b"\x16\x03\x01", Some(Dialect::Tls)),
            (b"\x15\x03\x03\0\x02", Some(Dialect::Tls)),
            (b"\x16\x02", Some(Dialect::Unknown)),
            (b"\x80\x2e", None),
            (b"\x80\x2e\x01\0", Some(Dialect::Ssl2)),
            (b"GE", None),
            (b"GET / HTTP/1.1", Some(Dialect::Http)),
            (b"HTTP/1.1 400", Some(Dialect::Http)),
            (b"PRI * HTTP/2.0", Some(Dialect::Http)),
            (b"SSH-2.0-OpenSSH", Some(Dialect::Ssh)),
            (b"\xff\xff", Some(Dialect::Unknown)),
        ];
        for (first, expected) in cases {
            assert_eq!(Dialect::of(first), expected, "{first:?}");
        }
        for first in 0..=u8::MAX {
            for second in [0, 1, 3, b'E', b'S', 0xff] {
                assert!(Dialect::of(&[first, second, 1, 0]).is_some(), "{first} {second}");
            }
        }
    }
}
