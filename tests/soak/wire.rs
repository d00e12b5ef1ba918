//! A modality by hand in Rust (PS3.8, PS3.7), for soaks that need more associations in a second than Python gives. Nothing here
//! is shared with the product.
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub const CT: &str = crate::harness::objects::CT;
const VERIFICATION: &str = "1.2.840.10008.1.1";
const EXPLICIT: &str = crate::harness::objects::EXPLICIT;
const APPLICATION: &str = "1.2.840.10008.3.1.1.1";
const PATIENCE: Duration = Duration::from_secs(20);

/// Presentation context of C-STORE (CT) and of C-ECHO.
const STORE: u8 = 1;
const ECHO: u8 = 3;

/// One association as requestor.
pub struct Peer(Socket);

/// Connects without a word. Loopback is a /8: each thread its own address, so that no pair of addresses runs out of ports.
pub fn connect(port: u16, from: u8) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 1, from), 0));
    socket.bind(&own.into())?;
    let box_at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&box_at.into(), PATIENCE)?;
    Ok(socket)
}

impl Peer {
    /// Associates as `MOD0`, for CT storage and verification.
    pub fn open(port: u16, from: u8) -> io::Result<Self> {
        Self::open_within(port, from, PATIENCE)
    }

    /// The same with less patience for the answer.
    pub fn open_within(port: u16, from: u8, patience: Duration) -> io::Result<Self> {
        let mut peer = Self(connect(port, from)?);
        peer.0.set_read_timeout(Some(patience))?;
        peer.0.write_all(&request())?;
        match peer.pdu()? {
            (2, _) => Ok(peer),
            _ => Err(io::Error::other("not accepted")),
        }
    }

    /// The status.
    pub fn echo(&mut self) -> io::Result<u16> {
        let command = command(&[
            (0x0002, VERIFICATION.as_bytes().to_vec()),
            (0x0100, us(0x0030)),
            (0x0110, us(1)),
            (0x0800, us(0x0101)),
        ]);
        self.0.write_all(&data(ECHO, 3, &command))?;
        self.status()
    }

    /// Stores; the status.
    pub fn store(&mut self, sop: &str, set: &[u8]) -> io::Result<u16> {
        let mut out = data(STORE, 3, &store_rq(sop));
        for (number, piece) in set.chunks(PIECE).enumerate() {
            let last = (number + 1) * PIECE >= set.len();
            out.extend(data(STORE, if last { 2 } else { 0 }, piece));
        }
        self.0.write_all(&out)?;
        self.status()
    }

    /// Begins to store and stops in the middle of the data set.
    pub fn begin(&mut self, sop: &str, set: &[u8]) -> io::Result<()> {
        let mut out = data(STORE, 3, &store_rq(sop));
        out.extend(data(STORE, 0, &set[..set.len() / 2]));
        self.0.write_all(&out)
    }

    pub fn release(mut self) -> io::Result<()> {
        self.0.write_all(&pdu(5, &[0; 4]))?;
        self.pdu().map(drop)
    }

    pub fn abort(mut self) -> io::Result<()> {
        self.0.write_all(&pdu(7, &[0; 4]))
    }

    fn pdu(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 6];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let mut body = vec![0; (length as usize).min(1 << 20)];
        self.0.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// (0000,0900) of an answer, which fits into one PDU.
    fn status(&mut self) -> io::Result<u16> {
        let (kind, body) = self.pdu()?;
        let tag = [0, 0, 0, 9, 2, 0, 0, 0];
        let found = body.windows(tag.len()).position(|bytes| bytes == tag);
        match found.and_then(|at| body.get(at + 8..at + 10)) {
            Some(value) if kind == 4 => Ok(u16::from_le_bytes([value[0], value[1]])),
            _ => Err(io::Error::other("no status in the answer")),
        }
    }
}

const PIECE: usize = 16_000;

fn store_rq(sop: &str) -> Vec<u8> {
    command(&[
        (0x0002, CT.as_bytes().to_vec()),
        (0x0100, us(0x0001)),
        (0x0110, us(1)),
        (0x0700, us(0)),
        (0x0800, us(0)),
        (0x1000, sop.as_bytes().to_vec()),
    ])
}

fn us(value: u16) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

pub fn request() -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(format!("{:<16}{:<16}", "WAYSTATION", "MOD0").bytes());
    body.extend([0; 32]);
    body.extend(item(0x10, APPLICATION.as_bytes()));
    for (id, class) in [(STORE, CT), (ECHO, VERIFICATION)] {
        let mut context = vec![id, 0, 0, 0];
        context.extend(item(0x30, class.as_bytes()));
        context.extend(item(0x40, EXPLICIT.as_bytes()));
        body.extend(item(0x20, &context));
    }
    let mut user = item(0x51, &65_536_u32.to_be_bytes());
    user.extend(item(0x52, b"1.2.3.4"));
    body.extend(item(0x50, &user));
    pdu(1, &body)
}

/// Implicit little endian; UIDs are padded with a null byte.
fn command(elements: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut set = Vec::new();
    for (number, value) in elements {
        let length = value.len() + value.len() % 2;
        set.extend([0, 0]);
        set.extend(number.to_le_bytes());
        set.extend((length as u32).to_le_bytes());
        set.extend(value);
        set.resize(set.len() + length - value.len(), 0);
    }
    let mut out = vec![0, 0, 0, 0, 4, 0, 0, 0];
    out.extend((set.len() as u32).to_le_bytes());
    out.extend(set);
    out
}

/// One PDU with one PDV; `flags`: 1 a command, 2 the last.
fn data(context: u8, flags: u8, piece: &[u8]) -> Vec<u8> {
    let mut pdv = (piece.len() as u32 + 2).to_be_bytes().to_vec();
    pdv.extend([context, flags]);
    pdv.extend(piece);
    pdu(4, &pdv)
}
