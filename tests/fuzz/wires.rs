//! The upper layer and DIMSE, from both sides, over a stream that gives what the input says in pieces of its first byte.
use super::outcome::signature;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use waystation::base::names::{AeTitle, Uid};
use waystation::dicom::association::{self, Association, Event, Local, Timeouts, UlError};
use waystation::dicom::dimse::Command;
use waystation::listener::SourceConfig;
use waystation::listener::negotiate::negotiate;

/// What a scripted peer says; whatever it hears is passed over.
struct Script<'a> {
    left: &'a [u8],
    step: usize,
}

impl<'a> Script<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (step, left) = bytes.split_first().unwrap_or((&0, &[]));
        Self {
            left,
            step: usize::from(*step) * 16 + 1,
        }
    }
}

impl AsyncRead for Script<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.step.min(self.left.len()).min(buf.remaining());
        let (now, later) = self.left.split_at(count);
        buf.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn timeouts() -> Timeouts {
    Timeouts {
        association: SECOND,
        idle: SECOND,
        transfer: SECOND,
        write: SECOND,
        response: SECOND,
        release: SECOND,
    }
}

fn local() -> Local {
    Local {
        max_pdu: 16_384,
        implementation_class_uid: Uid::known("1.2.3"),
        implementation_version: "FUZZ".to_owned(),
        window: 4,
    }
}

fn ended<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// What an association came to: messages, bytes of data sets, and how it ended.
#[derive(Debug, Default)]
struct Seen {
    contexts: usize,
    commands: Vec<std::mem::Discriminant<Command>>,
    bytes: usize,
    end: String,
}

pub fn association(bytes: &[u8]) -> u64 {
    let mut seen = Seen::default();
    if let Err(error) = ended(serve(Script::of(bytes), &mut seen, bytes.len())) {
        seen.end = error.to_string();
    }
    signature(&seen)
}

/// Longer than what is copied, shorter than what may come.
const ROOM: usize = 40_000;

async fn serve(mut script: Script<'_>, seen: &mut Seen, length: usize) -> Result<(), UlError> {
    let request = association::receive_request(&mut script, &timeouts()).await?;
    assert!(request.contexts.len() <= 128, "ids are odd");
    let source: SourceConfig =
        toml::from_str("name = \"a\"\ncalling_ae = [\"A\"]\naddresses = [\"0.0.0.0/0\"]").expect("a source");
    let results = negotiate(&request.contexts, &source);
    assert_eq!(results.len(), request.contexts.len());
    seen.contexts = results.len();
    let mut association = Association::accept(script, &request, results, &local(), timeouts()).await?;
    loop {
        match association.next().await? {
            Event::Release => return association.release_reply().await,
            Event::Malformed { .. } => "malformed".clone_into(&mut seen.end),
            Event::Command { context, command } => {
                assert!(association.context(context).is_some(), "only on accepted contexts");
                seen.commands.push(std::mem::discriminant(&command));
                let mut room = [0; ROOM];
                while let Some(count) = association.data_into(&mut room).await? {
                    assert!((1..=ROOM).contains(&count), "within the room, and never nothing");
                    seen.bytes += count;
                }
                assert!(seen.bytes <= length, "more than was sent");
                if !command.has_data_set() {
                    association.send(context, &command).await?;
                }
            }
        }
    }
}

pub fn answers(bytes: &[u8]) -> u64 {
    let mut seen = Seen::default();
    if let Err(error) = ended(ask(Script::of(bytes), &mut seen)) {
        seen.end = error.to_string();
    }
    signature(&seen)
}

async fn ask(script: Script<'_>, seen: &mut Seen) -> Result<(), UlError> {
    let title = AeTitle::parse("FUZZ").expect("a title");
    let contexts = [
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"),
        ("1.2.840.10008.1.1", "1.2.840.10008.1.2"),
    ];
    let contexts = contexts.map(|(class, syntax)| (Uid::known(class), vec![Uid::known(syntax)]));
    let mut association = Association::request(script, &title, &title, &contexts, &local(), timeouts()).await?;
    seen.contexts = association.contexts().iter().filter(|c| c.result.is_ok()).count();
    for message_id in 1..4 {
        let Some(context) = association.accepted_class(&contexts[1].0) else {
            break;
        };
        association.send(context, &Command::EchoRq { message_id }).await?;
        match association.next().await? {
            Event::Command { command, .. } => seen.commands.push(std::mem::discriminant(&command)),
            Event::Malformed { .. } => "malformed".clone_into(&mut seen.end),
            Event::Release => return association.release_reply().await,
        }
        while let Some(piece) = association.data().await? {
            seen.bytes += piece.len();
        }
    }
    association.release().await
}

/// What was read and written is read as the same.
pub fn dimse(bytes: &[u8]) -> u64 {
    let parsed = Command::parse(bytes);
    // A request that this box has no name for is never written by it.
    let is_ours = |command: &&Command| !matches!(command, Command::Other { status: None, .. });
    if let Some(command) = parsed.as_ref().ok().filter(is_ours) {
        let written = command.write();
        let again = Command::parse(&written);
        let again = again.expect("what this box writes it can read");
        assert_eq!(again.write(), written, "a command that changes: {command:?}");
        assert_eq!(again.has_data_set(), command.has_data_set());
    }
    match parsed {
        Ok(command) => signature(&(std::mem::discriminant(&command), command.has_data_set())),
        Err(error) => signature(&error),
    }
}
