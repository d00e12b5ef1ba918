//! What the machine itself can do, in the same run: a log that is flushed, and a socket.
//!
//! `log`: as many writers as there are associations append records of the same size to one file that was written full
//! beforehand, so that a flush moves data and no metadata; a record counts when an `fdatasync` that began after its write has
//! ended; all that wait share one. `log-each`: each writer has such a file of its own and flushes it for each record by itself. Both
//! files are rings: nothing grows. `log-new` is `log` in a file whose blocks were found beforehand, but never written: what a log is
//! that was preallocated and no more. The records come from memory and nobody receives them.
//!
//! `loopback`: as many connections of TCP on this machine; a record is written as in a sender, read to its end into a buffer that
//! is thrown away, and answered with a byte.
use super::load::{Budget, Measured};
use super::objects::Kind;
use super::usage;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::net::sockopt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Bytes that the log's files hold, all together.
const RING: u64 = 2 << 30;
/// Bytes that `log-new` has room for, all writers together: more than a figure of some seconds writes, so that nothing is written twice.
const PREALLOCATED: u64 = 12 << 30;
/// A write of a long record.
const PIECE: usize = 1 << 20;

/// The files of the log: made once for all figures of a run.
pub struct Log {
    files: Vec<File>,
    each: u64,
    folder: tempfile::TempDir,
}

impl Log {
    /// Files for so many writers, written full and flushed.
    pub fn new(writers: usize, ring: Option<u64>) -> Self {
        let folder = super::peers::folder();
        let each = (ring.unwrap_or(RING) / writers as u64).next_multiple_of(PIECE as u64);
        let zeros = vec![0; PIECE];
        let files: Vec<File> = (0..writers)
            .map(|number| {
                let file = File::create(folder.path().join(format!("log-{number}"))).expect("writable");
                for piece in 0..each / PIECE as u64 {
                    file.write_all_at(&zeros, piece * PIECE as u64)
                        .expect("room for the log");
                }
                file.sync_all().expect("flushed");
                file
            })
            .collect();
        Self { files, each, folder }
    }

    /// Every writer to the first file, one flush for all that wait.
    pub fn shared(&self, kind: &Kind, budget: Budget) -> Measured {
        Self::of(&self.files[0], self.each / budget.associations as u64, kind, budget)
    }

    /// Each writer has a part of the file: records of different writers never overlap.
    fn of(file: &File, part: u64, kind: &Kind, budget: Budget) -> Measured {
        let group = Group::default();
        measure(kind, budget, |writer, number| {
            let place = Place {
                from: part * writer as u64,
                length: part,
            };
            write(file, kind, place, number);
            group.flushed(file);
        })
    }

    /// The same into a file that was preallocated by one call for this figure.
    pub fn preallocated(&self, kind: &Kind, budget: Budget) -> Measured {
        let file = tempfile::tempfile_in(self.folder.path()).expect("writable");
        let part = PREALLOCATED.min(budget.bytes) / budget.associations as u64;
        let length = part * budget.associations as u64;
        fallocate(&file, FallocateFlags::empty(), 0, length).expect("room for the log");
        file.sync_all().expect("flushed");
        Self::of(&file, part, kind, budget)
    }

    /// Every writer to its own file, a flush for each record.
    pub fn each(&self, kind: &Kind, budget: Budget) -> Measured {
        measure(kind, budget, |writer, number| {
            let file = &self.files[writer];
            write(
                file,
                kind,
                Place {
                    from: 0,
                    length: self.each,
                },
                number,
            );
            file.sync_data().expect("flushed");
        })
    }
}

struct Place {
    from: u64,
    length: u64,
}

fn write(file: &File, kind: &Kind, place: Place, number: u64) {
    let mut left = kind.size;
    let mut at = (number * kind.size) % place.length;
    while left > 0 {
        let room = (place.length - at)
            .min(left)
            .min(PIECE as u64)
            .min(kind.noise.len() as u64);
        let count = usize::try_from(room).expect("a piece");
        file.write_all_at(&kind.noise[..count], place.from + at)
            .expect("written");
        left -= room;
        at = (at + room) % place.length;
    }
}

/// One flush for all that had written when it began.
#[derive(Default)]
pub struct Group {
    state: Mutex<Turns>,
    turned: Condvar,
}

#[derive(Default)]
struct Turns {
    running: bool,
    /// Flushes begun, and ended.
    begun: u64,
    ended: u64,
}

impl Group {
    /// Waits for a flush that began after the call.
    pub fn flushed(&self, file: &File) {
        let mut turns = self.lock();
        let wanted = turns.begun + 1;
        while turns.ended < wanted {
            if turns.running {
                turns = self.turned.wait(turns).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turns.running = true;
            turns.begun += 1;
            let turn = turns.begun;
            drop(turns);
            file.sync_data().expect("flushed");
            turns = self.lock();
            turns.running = false;
            turns.ended = turn;
            self.turned.notify_all();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TCP on this machine.
pub fn loopback(kind: &Kind, budget: Budget) -> Measured {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::scope(|scope| {
        let mut streams = Vec::new();
        for _ in 0..budget.associations {
            let stream = TcpStream::connect(address).expect("loopback");
            stream.set_nodelay(true).expect("a socket");
            let (sink, _) = listener.accept().expect("loopback");
            sink.set_nodelay(true).expect("a socket");
            let size = kind.size;
            scope.spawn(move || swallow(sink, size));
            streams.push(Mutex::new(stream));
        }
        let out = measure(kind, budget, |writer, _| {
            let mut stream = streams[writer].lock().unwrap_or_else(PoisonError::into_inner);
            let mut left = kind.size;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(kind.noise.len());
                stream.write_all(&kind.noise[..count]).expect("taken");
                left -= count as u64;
            }
            sockopt::set_tcp_quickack(&*stream, true).expect("a socket");
            stream.read_exact(&mut [0]).expect("answered");
        });
        // The sinks end with their connections.
        drop(streams);
        out
    })
}

fn swallow(mut sink: TcpStream, size: u64) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let mut left = size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match sink.read(&mut buffer[..room]) {
                Ok(0) | Err(_) => return,
                Ok(count) => left -= count as u64,
            }
        }
        if sink.write_all(&[1]).is_err() {
            return;
        }
    }
}

/// Runs `record` on as many threads as there are associations, each with its own number and the record's.
fn measure(kind: &Kind, budget: Budget, record: impl Fn(usize, u64) + Sync) -> Measured {
    let sum = Mutex::new(Measured::default());
    let cpu = usage::own_cpu();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..budget.associations {
            let (sum, record) = (&sum, &record);
            scope.spawn(move || {
                let mut times = Vec::new();
                let share = budget.bytes / budget.associations as u64;
                loop {
                    let start = Instant::now();
                    record(writer, times.len() as u64);
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                    if began.elapsed() >= budget.span || times.len() as u64 * kind.size >= share {
                        break;
                    }
                }
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                sum.instances += times.len() as u64;
                sum.bytes += times.len() as u64 * kind.size;
                sum.answers_ms.append(&mut times);
            });
        }
    });
    let mut out = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    out.seconds = began.elapsed().as_secs_f64();
    out.sender_cpu = usage::own_cpu() - cpu;
    out
}
