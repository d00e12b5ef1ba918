//! Bytes of a record: version first, crc32 last, big-endian between. Reading never panics and allocates nothing that
//! the record only claims to hold.

/// The version that is written into every record. Readers take this one and, later, the two before it.
const VERSION: u8 = 1;

/// A record that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged;

/// Version first, crc32 last, around any body.
pub(super) fn wrap(body: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(body);
    w.finish()
}

/// The body of a wrapped record.
pub(super) fn unwrap_body(raw: &[u8]) -> Result<&[u8], Damaged> {
    Ok(Reader::open(raw)?.rest)
}

/// Builds one record.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(vec![VERSION])
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }
    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Names only: all of them are at most 64 bytes.
    pub(super) fn short(&mut self, text: &str) {
        assert!(text.len() <= 64, "a name is at most 64 bytes");
        self.0.push(text.len() as u8);
        self.raw(text.as_bytes());
    }

    pub(super) fn long(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.raw(bytes);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0);
        self.u32(crc);
        self.0
    }
}

/// Takes one record apart.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn open(raw: &'a [u8]) -> Result<Self, Damaged> {
        let (covered, crc) = raw.split_last_chunk::<4>().ok_or(Damaged)?;
        if crc32fast::hash(covered) != u32::from_be_bytes(*crc) || covered.first() != Some(&VERSION) {
            return Err(Damaged);
        }
        Ok(Self { rest: &covered[1..] })
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }
    pub(super) fn u8(&mut self) -> Result<u8, Damaged> {
        Ok(self.array::<1>()?[0])
    }
    pub(super) fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(super) fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn short(&mut self) -> Result<&'a str, Damaged> {
        let count = self.u8()?;
        std::str::from_utf8(self.take(usize::from(count))?).map_err(|_| Damaged)
    }

    pub(super) fn long(&mut self) -> Result<&'a [u8], Damaged> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub(super) fn text(&mut self) -> Result<String, Damaged> {
        String::from_utf8(self.long()?.to_vec()).map_err(|_| Damaged)
    }

    pub(super) fn end(&self) -> Result<(), Damaged> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}
