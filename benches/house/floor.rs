//! The least that a receiver can be, to know what a missed target misses by design and what by the machine: one thread for each
//! association, blocking calls, memory used again, no rules, no look at the data set, no index but a line for each instance. It runs
//! as a process of its own, so that its processor time is told apart from the sender's.
//!
//! | name | what an answer waits for |
//! | --- | --- |
//! | `floor-files` | the reception, the BLAKE3 digest, a file of its own (made ahead) written past the page cache and flushed, a line in an index written ahead, one flush for all that wait |
//! | `floor-reused` | the same, but the file was written before and is written over: nothing but its bytes has to reach the disk |
//! | `floor-log` | the reception, the digest, and the bytes in a file that was written full beforehand, one for each association, flushed |
//! | `floor-none` | the reception alone: nothing is hashed, nothing is kept |
//!
//! `floor-files` keeps what the box keeps: a file for each instance and the word that it is there. `floor-log` has what the flushed log
//! has; no box whose cache must be able to give away one study and keep another can write so, but none can be quicker. `floor-reused`
//! is what a box could be that takes the files its cache gives away for the next arrivals.
use super::limits::Group;
use super::objects::EXPLICIT;
use super::wire::item;
use rustix::fs::{FallocateFlags, IFlags, OFlags, fallocate, ioctl_getflags, ioctl_setflags};
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// The kinds, as `PEERS` names them.
pub const NAMES: [&str; 4] = ["floor-files", "floor-reused", "floor-log", "floor-none"];
const BLOCK: usize = 4 << 10;
/// Bytes that are written at once: a CT slice is.
const STRIDE: usize = 640 << 10;
/// Files made ahead in each folder, whose entries are flushed together, and folders of an association.
const AHEAD: usize = 32;
const FOLDERS: usize = 8;
/// A line of the index, and how many there are before it begins anew.
const LINE: usize = 512;
const LINES: u64 = 16 << 10;
/// Bytes of a file of `floor-reused`, written before it serves; what a longer instance adds is written over from the second lap on.
const USED: u64 = 1 << 20;
/// Bytes of the file of an association of `floor-log`, written full before it serves.
const RING: u64 = 256 << 20;
/// The longest PDU that is taken, as DCMTK's and the box's.
const PDU_MAX: u32 = 131_072;

/// Serves one kind on a port until it is ended. Each association has a folder of its own below `folder`.
///
/// # Panics
/// When the port or the folder cannot be used: a figure would be none.
pub fn serve(kind: &str, port: u16, folder: &Path) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("as many files as it may have");
    let keep = Keep::of(kind, folder);
    let socket = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    for (number, stream) in socket.incoming().enumerate() {
        let (keep, stream) = (keep.clone(), stream.expect("a connection"));
        std::thread::spawn(move || {
            // A look whether it serves yet says nothing, and a sender that breaks off is seen by the sender.
            drop(Session::new(stream, keep.of_association(number)).and_then(|mut session| session.run()));
        });
    }
}

/// What all associations share.
#[derive(Clone)]
enum Keep {
    Nothing,
    Logs(PathBuf),
    Files(PathBuf, Arc<Index>, Made),
}

/// Where a file comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    New,
    Reused,
}

/// What one has to itself.
enum Own {
    Nothing,
    Log {
        file: File,
        at: u64,
    },
    Files {
        ahead: Receiver<File>,
        index: Arc<Index>,
        file: Option<File>,
    },
}

impl Keep {
    fn of(kind: &str, folder: &Path) -> Self {
        match kind {
            "floor-none" => Self::Nothing,
            "floor-log" => Self::Logs(folder.to_owned()),
            "floor-files" => Self::Files(folder.to_owned(), Arc::new(Index::new(folder)), Made::New),
            "floor-reused" => Self::Files(folder.to_owned(), Arc::new(Index::new(folder)), Made::Reused),
            other => unreachable!("{other} is none of NAMES"),
        }
    }

    fn of_association(&self, number: usize) -> Own {
        match self {
            Self::Nothing => Own::Nothing,
            Self::Logs(folder) => Own::Log {
                file: full(&folder.join(format!("log-{number}")), RING, true),
                at: 0,
            },
            Self::Files(folder, index, made) => Own::Files {
                ahead: made_ahead(folder.join(format!("{number:04}")), *made),
                index: index.clone(),
                file: None,
            },
        }
    }
}

/// Files whose entries are flushed before the first of them is handed out: as in the box, `AHEAD` of one folder share a flush, several
/// folders take turns, and the folders are spread over the disk, for neighbours that are flushed at the same time wait for each other.
fn made_ahead(folder: PathBuf, way: Made) -> Receiver<File> {
    let (made, ahead) = sync_channel(AHEAD);
    let folders: Vec<PathBuf> = (0..FOLDERS).map(|number| folder.join(format!("{number:02}"))).collect();
    std::fs::create_dir(&folder).expect("a new folder");
    let top = File::open(&folder).expect("a new folder");
    // Where a file system knows no such flag, neighbours they are.
    let _slower = ioctl_getflags(&top).and_then(|flags| ioctl_setflags(&top, flags | IFlags::TOPDIR));
    for folder in &folders {
        std::fs::create_dir(folder).expect("a new folder");
    }
    if way == Made::Reused {
        let files: Vec<File> = (0..AHEAD * FOLDERS)
            .map(|number| folders[number % FOLDERS].join(number.to_string()))
            .map(|path| full(&path, USED, true))
            .collect();
        // One association has one of them at a time, and as many as the channel holds are on their way to it.
        std::thread::spawn(move || {
            let mut laps = files.iter().cycle();
            while laps
                .next()
                .is_some_and(|file| made.send(file.try_clone().expect("a descriptor")).is_ok())
            {}
        });
        return ahead;
    }
    std::thread::spawn(move || {
        for batch in 0_u64.. {
            let mut files: Vec<(usize, File)> = Vec::new();
            for folder in &folders {
                files.extend((0..AHEAD).map(|number| (number, open(&folder.join(format!("{batch}-{number}")), true))));
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .expect("flushed");
            }
            files.sort_by_key(|(number, _)| *number);
            for (_, file) in files {
                if made.send(file).is_err() {
                    return;
                }
            }
        }
    });
    ahead
}

fn open(path: &Path, direct: bool) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    if direct {
        options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).expect("a flag"));
    }
    options.open(path).expect("a new file")
}

/// A file whose blocks have been written before.
fn full(path: &Path, length: u64, direct: bool) -> File {
    let (file, zeros) = (open(path, false), vec![0; 1 << 20]);
    for at in (0..length).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("room for the bench");
    }
    file.sync_all().expect("flushed");
    let mut options = File::options();
    options.write(true);
    if direct {
        options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).expect("a flag"));
    }
    options.open(path).expect("it was made just now")
}

/// The word that an instance is there: lines in a file that was written before, one flush for all that wait.
struct Index {
    file: File,
    next: AtomicU64,
    group: Group,
}

impl Index {
    fn new(folder: &Path) -> Self {
        Self {
            file: full(&folder.join("index"), LINES * LINE as u64, false),
            next: AtomicU64::new(0),
            group: Group::default(),
        }
    }

    fn put(&self, digest: &[u8]) {
        let mut line = [b' '; LINE];
        line[..digest.len()].copy_from_slice(digest);
        let number = self.next.fetch_add(1, Ordering::Relaxed) % LINES;
        self.file.write_all_at(&line, number * LINE as u64).expect("written");
        self.group.flushed(&self.file);
    }
}

/// An association.
struct Session {
    stream: TcpStream,
    own: Own,
    hasher: blake3::Hasher,
    memory: Vec<u8>,
    /// Where a block begins in `memory`, how much stands behind it, and how much of the instance was written already.
    start: usize,
    length: usize,
    written: u64,
    /// Headers of the next PDU and PDV, read with the end of the last one.
    next: [u8; 12],
    known: usize,
}

impl Session {
    fn new(stream: TcpStream, own: Own) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let memory = vec![0; STRIDE + BLOCK];
        Ok(Self {
            stream,
            own,
            hasher: blake3::Hasher::new(),
            start: memory.as_ptr().align_offset(BLOCK).min(BLOCK),
            memory,
            length: 0,
            written: 0,
            next: [0; 12],
            known: 0,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        self.accept()?;
        let mut command = Vec::new();
        loop {
            self.need(6)?;
            if self.next[0] == 5 {
                return self.stream.write_all(&[6, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
            }
            // The sender of the bench puts one fragment into each PDU.
            self.need(12)?;
            self.known = 0;
            let (context, control) = (self.next[10], self.next[11]);
            let count = u32::from_be_bytes([self.next[6], self.next[7], self.next[8], self.next[9]]) as usize - 2;
            let is_last = control & 2 != 0;
            if control & 1 != 0 {
                let from = command.len();
                command.resize(from + count, 0);
                // The data set follows its command.
                self.known = fill(&mut self.stream, &mut command[from..], &mut self.next)?;
                continue;
            }
            self.take(count, is_last)?;
            if is_last {
                self.seal();
                let answer = answer(context, &command);
                self.stream.write_all(&answer)?;
                command.clear();
            }
        }
    }

    /// Answers the A-ASSOCIATE-RQ: its first context is accepted.
    fn accept(&mut self) -> io::Result<()> {
        let mut head = [0; 6];
        self.stream.read_exact(&mut head)?;
        let mut body = vec![0; u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize];
        self.stream.read_exact(&mut body)?;
        let mut context = vec![1, 0, 0, 0];
        item(&mut context, 0x40, EXPLICIT.as_bytes());
        body.truncate(68);
        item(&mut body, 0x10, b"1.2.840.10008.3.1.1.1");
        item(&mut body, 0x21, &context);
        let mut user = Vec::new();
        item(&mut user, 0x51, &PDU_MAX.to_be_bytes());
        item(&mut user, 0x52, b"1.2.826.0.1.3680043.10.3.1");
        item(&mut body, 0x50, &user);
        let mut out = vec![2, 0];
        out.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes());
        out.append(&mut body);
        self.stream.write_all(&out)
    }

    fn need(&mut self, count: usize) -> io::Result<()> {
        while self.known < count {
            let read = self.stream.read(&mut self.next[self.known..count])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.known += read;
        }
        Ok(())
    }

    /// A fragment of the data set, stride by stride.
    fn take(&mut self, mut count: usize, is_last: bool) -> io::Result<()> {
        while count > 0 {
            let from = self.start + self.length;
            let room = count.min(STRIDE - self.length);
            let into = &mut self.memory[from..from + room];
            // Behind the last fragment nothing comes before the answer.
            let mut nothing = [];
            let next: &mut [u8] = if room == count && !is_last {
                &mut self.next
            } else {
                &mut nothing
            };
            self.known = fill(&mut self.stream, into, next)?;
            if !matches!(self.own, Own::Nothing) {
                self.hasher.update(into);
            }
            self.length += room;
            count -= room;
            if self.length == STRIDE {
                self.write();
            }
        }
        Ok(())
    }

    /// Whole blocks to the disk; what lies behind the end is noise.
    fn write(&mut self) {
        let blocks = &self.memory[self.start..self.start + self.length.next_multiple_of(BLOCK)];
        match &mut self.own {
            Own::Nothing => {}
            Own::Log { file, at } => {
                if *at + blocks.len() as u64 > RING {
                    *at = 0;
                }
                file.write_all_at(blocks, *at).expect("written");
                *at += blocks.len() as u64;
            }
            Own::Files { ahead, file, .. } => {
                let file = file.get_or_insert_with(|| ahead.recv().expect("files are made ahead"));
                // Where a file system knows no such call, blocks are found at the write; a file that was written before has them.
                let _slower = fallocate(&*file, FallocateFlags::KEEP_SIZE, self.written, blocks.len() as u64);
                file.write_all_at(blocks, self.written).expect("written");
            }
        }
        self.written += blocks.len() as u64;
        self.length = 0;
    }

    /// The last stride, and everything durable.
    fn seal(&mut self) {
        self.write();
        self.written = 0;
        let digest = self.hasher.finalize();
        self.hasher.reset();
        match &mut self.own {
            Own::Nothing => {}
            Own::Log { file, .. } => file.sync_data().expect("flushed"),
            Own::Files { file, index, .. } => {
                let file = file.take().expect("it was written");
                file.sync_data().expect("flushed");
                index.put(digest.as_bytes());
            }
        }
    }
}

/// Fills `into`, and as much of `next` as has come with it.
fn fill(stream: &mut TcpStream, into: &mut [u8], next: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let rest = into.len() - done;
        let read = stream.read_vectored(&mut [IoSliceMut::new(&mut into[done..]), IoSliceMut::new(next)])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read > rest {
            return Ok(read - rest);
        }
        done += read;
    }
    Ok(0)
}

/// C-STORE-RSP with status 0000 to a request in implicit little endian.
fn answer(context: u8, request: &[u8]) -> Vec<u8> {
    let mut elements = Vec::new();
    let mut rest = request;
    while let Some((&[0, 0, low, high, a, b, c, d], behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((value, next)) = behind.split_at_checked(length) else {
            break;
        };
        let (number, value): (u16, &[u8]) = match u16::from_le_bytes([low, high]) {
            0x0100 => (0x0100, &[1, 0x80]),
            0x0110 => (0x0120, value),
            0x0800 => (0x0800, &[1, 1]),
            // Status stands before the instance's UID.
            0x1000 => {
                elements.extend_from_slice(&[0, 0, 0, 9, 2, 0, 0, 0, 0, 0]);
                (0x1000, value)
            }
            0x0002 => (0x0002, value),
            _ => {
                rest = next;
                continue;
            }
        };
        elements.extend_from_slice(&[0, 0]);
        elements.extend_from_slice(&number.to_le_bytes());
        elements.extend_from_slice(&u32::try_from(value.len()).expect("short").to_le_bytes());
        elements.extend_from_slice(value);
        rest = next;
    }
    let mut body = vec![0, 0, 0, 0, 4, 0, 0, 0];
    body.extend_from_slice(&u32::try_from(elements.len()).expect("short").to_le_bytes());
    body.append(&mut elements);
    let length = u32::try_from(body.len()).expect("short");
    let mut out = vec![4, 0];
    out.extend_from_slice(&(length + 6).to_be_bytes());
    out.extend_from_slice(&(length + 2).to_be_bytes());
    out.extend_from_slice(&[context, 3]);
    out.append(&mut body);
    out
}
