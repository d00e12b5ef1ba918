//! The sender's half of an association, over a blocking socket: as little work for each byte as a sender can do.
//!
//! The PDUs of an instance are framed before the clock starts. Sending one changes its UIDs in place and hands the kernel the
//! buffers as they are, so that the sender's part of two shared processors is the copy into the socket. Acknowledgements
//! leave at once (`TCP_QUICKACK`), or a peer that writes its answer in two parts would be measured with the 40 ms that the
//! kernel delays them.
use super::objects::{EXPLICIT, Kind, numbered};
use rustix::net::sockopt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What we say that we take; answers are short.
const OUR_PDU: u32 = 16_384;
/// The longest PDU that we send, whatever the peer would take.
const PDU_MAX: usize = 131_072;
/// A peer that does not move for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Sender {
    stream: TcpStream,
    /// Bytes of a message in one PDU.
    fragment: usize,
    answer: Vec<u8>,
}

/// An instance framed for one peer's PDU length: what is changed in place, and what all senders share.
pub struct Framed {
    kind: Kind,
    series: u64,
    number: u64,
    fragment: usize,
    front: Vec<u8>,
    /// PDUs in a row that are written `times` over.
    body: Vec<(std::sync::Arc<Vec<u8>>, u64)>,
}

/// Connects and associates for one class.
///
/// # Errors
/// The socket's, or what the peer answered.
pub fn associate(to: SocketAddr, called: &str, calling: &str, class: &str) -> io::Result<Sender> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut sender = Sender {
        stream,
        fragment: 0,
        answer: Vec::new(),
    };
    sender.stream.write_all(&request(called, calling, class))?;
    let (kind, body) = sender.pdu()?;
    if kind != 2 {
        return Err(io::Error::other(format!(
            "the association was answered with PDU type {kind}"
        )));
    }
    let longest = accepted(&body)?;
    let longest = if longest == 0 {
        PDU_MAX
    } else {
        (longest as usize).min(PDU_MAX)
    };
    sender.fragment = (longest - 6) & !1;
    Ok(sender)
}

impl Sender {
    /// Frames a kind for this peer.
    pub fn framed(&self, kind: &Kind, series: u64, shared: Option<&Framed>) -> Framed {
        let body = match shared {
            Some(framed) if framed.fragment == self.fragment => framed.body.clone(),
            _ => body(kind, self.fragment),
        };
        Framed {
            kind: kind.clone(),
            series,
            number: 0,
            fragment: self.fragment,
            front: Vec::new(),
            body,
        }
    }

    /// Sends the next instance and waits for its answer: the status.
    ///
    /// # Errors
    /// The socket's, or the answer is none.
    pub fn store(&mut self, framed: &mut Framed) -> io::Result<u16> {
        framed.next();
        self.put(framed)?;
        loop {
            let (kind, body) = self.pdu()?;
            match kind {
                4 => {
                    if let Some(status) = status(&body) {
                        return Ok(status);
                    }
                }
                kind => return Err(io::Error::other(format!("a PDU of type {kind} instead of an answer"))),
            }
        }
    }

    fn put(&mut self, framed: &Framed) -> io::Result<()> {
        let mut first: &[u8] = &framed.front;
        for (block, times) in &framed.body {
            for _ in 0..*times {
                let mut rest: &[u8] = block;
                while !rest.is_empty() {
                    let count = self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(rest)])?;
                    let of_first = count.min(first.len());
                    first = &first[of_first..];
                    rest = &rest[count - of_first..];
                }
            }
        }
        self.stream.write_all(first)
    }

    /// One PDU: its type and its body.
    fn pdu(&mut self) -> io::Result<(u8, Vec<u8>)> {
        while self.answer.len() < 6 {
            self.fill()?;
        }
        let length = u32::from_be_bytes([self.answer[2], self.answer[3], self.answer[4], self.answer[5]]) as usize;
        while self.answer.len() < 6 + length {
            self.fill()?;
        }
        let body = self.answer[6..6 + length].to_vec();
        let kind = self.answer[0];
        self.answer.drain(..6 + length);
        Ok((kind, body))
    }

    fn fill(&mut self) -> io::Result<()> {
        sockopt::set_tcp_quickack(&self.stream, true)?;
        let mut buffer = [0; 4_096];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.answer.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// A-RELEASE, and waits for the peer to close or answer.
    pub fn release(mut self) {
        let asked = self.stream.write_all(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        if asked.is_ok() {
            // Everything was answered: how the peer takes its leave changes nothing.
            drop(self.pdu());
        }
    }
}

impl Framed {
    /// Goes on to the next instance: new UIDs in command and data set.
    fn next(&mut self) {
        let (head, sop) = numbered(&self.kind, self.number, self.series);
        self.number += 1;
        self.front.clear();
        let command = command(self.kind.class, &sop, (self.number % 65_535) as u16 + 1);
        pdv(&mut self.front, &command, 3);
        let first = first_fragment(&self.kind, self.fragment);
        let is_last = head.len() as u64 + self.kind.tail == first as u64;
        let begin = self.front.len();
        self.front
            .extend_from_slice(&pdv_header(first, if is_last { 2 } else { 0 }));
        self.front.extend_from_slice(&head);
        self.front.extend_from_slice(&self.kind.noise[..first - head.len()]);
        assert_eq!(self.front.len() - begin, 12 + first, "the first fragment is whole");
    }

    /// The SOP Instance UID that was sent last.
    pub fn last_sop(&self) -> String {
        numbered(&self.kind, self.number - 1, self.series).1
    }
}

/// The first fragment holds the head and, when there is room, the start of the last value; what follows is shared.
fn first_fragment(kind: &Kind, fragment: usize) -> usize {
    let whole = kind.head.len() as u64 + kind.tail;
    let first = usize::try_from(whole).unwrap_or(usize::MAX).min(fragment);
    first.min(kind.head.len() + kind.noise.len())
}

/// The PDUs behind the first fragment: whole runs over the noise, then what is left, with the last flag.
fn body(kind: &Kind, fragment: usize) -> Vec<(std::sync::Arc<Vec<u8>>, u64)> {
    let mut left = kind.head.len() as u64 + kind.tail - first_fragment(kind, fragment) as u64;
    if left == 0 {
        return Vec::new();
    }
    let whole = kind.noise.len() / fragment;
    let mut out = Vec::new();
    let run = (whole * fragment) as u64;
    // The last PDU is never in a run: it has a flag.
    let runs = left.saturating_sub(1).checked_div(run).unwrap_or(0);
    if runs > 0 {
        let mut block = Vec::with_capacity(whole * (fragment + 12));
        for piece in kind.noise.chunks_exact(fragment) {
            block.extend_from_slice(&pdv_header(fragment, 0));
            block.extend_from_slice(piece);
        }
        out.push((std::sync::Arc::new(block), runs));
        left -= runs * run;
    }
    let left = usize::try_from(left).expect("less than a run");
    let mut block = Vec::with_capacity(left + left / fragment * 12 + 24);
    let mut pieces = kind.noise[..left].chunks(fragment).peekable();
    while let Some(piece) = pieces.next() {
        block.extend_from_slice(&pdv_header(piece.len(), if pieces.peek().is_none() { 2 } else { 0 }));
        block.extend_from_slice(piece);
    }
    out.push((std::sync::Arc::new(block), 1));
    out
}

fn pdv_header(length: usize, control: u8) -> [u8; 12] {
    let length = u32::try_from(length).expect("a fragment");
    let (pdu, item) = ((length + 6).to_be_bytes(), (length + 2).to_be_bytes());
    [
        4, 0, pdu[0], pdu[1], pdu[2], pdu[3], item[0], item[1], item[2], item[3], 1, control,
    ]
}

fn pdv(out: &mut Vec<u8>, bytes: &[u8], control: u8) {
    out.extend_from_slice(&pdv_header(bytes.len(), control));
    out.extend_from_slice(bytes);
}

/// C-STORE-RQ (PS3.7 9.3.1.1), implicit little endian.
fn command(class: &str, sop: &str, message: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let mut element = |element: u16, value: &[u8]| {
        body.extend_from_slice(&0_u16.to_le_bytes());
        body.extend_from_slice(&element.to_le_bytes());
        let even = value.len() + value.len() % 2;
        body.extend_from_slice(&u32::try_from(even).expect("short").to_le_bytes());
        body.extend_from_slice(value);
        if even != value.len() {
            body.push(0);
        }
    };
    element(0x0002, class.as_bytes());
    element(0x0100, &1_u16.to_le_bytes());
    element(0x0110, &message.to_le_bytes());
    element(0x0700, &0_u16.to_le_bytes());
    element(0x0800, &1_u16.to_le_bytes());
    element(0x1000, sop.as_bytes());
    let length = u32::try_from(body.len()).expect("short");
    let mut out = vec![0, 0, 0, 0, 4, 0, 0, 0];
    out.extend_from_slice(&length.to_le_bytes());
    out.append(&mut body);
    out
}

/// The status (0000,0900) of an answer's PDVs; `None` for a command that has none.
fn status(body: &[u8]) -> Option<u16> {
    // Behind the PDV's length, context and control: elements in implicit little endian.
    let mut rest = body.get(6..)?;
    while let Some((&[a, b, c, d, e, f, g, h], behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([e, f, g, h]) as usize;
        if [a, b, c, d] == [0, 0, 0, 9] {
            return Some(u16::from_le_bytes([*behind.first()?, *behind.get(1)?]));
        }
        rest = behind.get(length..)?;
    }
    None
}

fn request(called: &str, calling: &str, class: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(format!("{called:16}{calling:16}").as_bytes());
    body.extend_from_slice(&[0; 32]);
    item(&mut body, 0x10, b"1.2.840.10008.3.1.1.1");
    let mut context = vec![1, 0, 0, 0];
    item(&mut context, 0x30, class.as_bytes());
    item(&mut context, 0x40, EXPLICIT.as_bytes());
    item(&mut body, 0x20, &context);
    let mut user = Vec::new();
    item(&mut user, 0x51, &OUR_PDU.to_be_bytes());
    item(&mut user, 0x52, b"1.2.826.0.1.3680043.10.3.1");
    item(&mut user, 0x55, b"BENCH");
    item(&mut body, 0x50, &user);
    let mut out = vec![1, 0];
    out.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes());
    out.append(&mut body);
    out
}

/// An item of an association PDU.
pub fn item(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
    out.extend_from_slice(value);
}

/// The maximum PDU length of an A-ASSOCIATE-AC that accepted our one context.
fn accepted(body: &[u8]) -> io::Result<u32> {
    let (mut at, mut longest, mut taken) = (68, 0, false);
    while let Some(&[kind, _, high, low]) = body.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = body.get(at + 4..at + 4 + length).unwrap_or_default();
        match kind {
            0x21 => taken = value.get(2) == Some(&0),
            0x50 => {
                if let Some(&[0x51, _, 0, 4, a, b, c, d]) = value.get(..8) {
                    longest = u32::from_be_bytes([a, b, c, d]);
                }
            }
            _ => {}
        }
        at += 4 + length;
    }
    if taken {
        Ok(longest)
    } else {
        Err(io::Error::other(
            "the peer does not take this class in explicit little endian",
        ))
    }
}
