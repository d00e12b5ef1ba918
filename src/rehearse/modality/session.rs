//! One association of the rehearsed modality.
use super::plan::Pair;
use super::{Failure, Item, Options, is_stored};
use crate::base::limits::CHUNK;
use crate::base::names::Uid;
use crate::dicom::association::{Association, DEFAULT_MAX_PDU, Event, Local, Stream, UlError};
use crate::dicom::dimse::{Command, Priority, StoreRq, VERIFICATION};
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION};
use crate::dicom::prompt::Prompt;
use crate::sender::tls::{Connector, refusal};
use crate::sender::wrong_port;
use std::io::SeekFrom;
use std::net::SocketAddr;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Default transfer syntax, which every peer takes for Verification.
const IMPLICIT: &str = "1.2.840.10008.1.2";

pub(super) struct Session {
    association: Association<Box<dyn Stream>>,
    message_id: u16,
    buffer: Vec<u8>,
}

impl Session {
    /// Connects, secures and associates; without pairs, Verification is proposed.
    pub(super) async fn open(
        options: &Options,
        connector: Option<&Connector>,
        pairs: &[Pair],
    ) -> Result<Self, Failure> {
        let (stream, address) = connect(options, connector).await?;
        let mut contexts: Vec<(Uid, Vec<Uid>)> = pairs
            .iter()
            .map(|(class, syntax)| (class.clone(), vec![syntax.clone()]))
            .collect();
        if contexts.is_empty() {
            contexts.push((Uid::known(VERIFICATION), vec![Uid::known(IMPLICIT)]));
        }
        let local = Local {
            max_pdu: DEFAULT_MAX_PDU,
            implementation_class_uid: Uid::known(IMPLEMENTATION_CLASS_UID),
            implementation_version: IMPLEMENTATION_VERSION.to_owned(),
            window: 1,
        };
        let (calling, called) = (&options.calling, &options.called);
        let associated = Association::request(stream, calling, called, &contexts, &local, options.timeouts).await;
        let association = match associated {
            Ok(association) => association,
            Err(error) if connector.is_none() => {
                let asked = wrong_port::of_request(&error, address).await;
                return Err(asked.map_or_else(|| failure(error), |down| Failure::WrongPort(down.reason)));
            }
            Err(error) => return Err(failure(error)),
        };
        Ok(Self {
            association,
            message_id: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends one file and waits for its answer: a status word that says stored, or the failure.
    pub(super) async fn store(&mut self, item: &Item) -> Result<u16, Failure> {
        let context = self.association.accepted(&item.sop_class, &item.transfer_syntax);
        let context = context.ok_or(Failure::NoContext)?;
        let mut file = File::open(&item.file).await?;
        file.seek(SeekFrom::Start(item.offset)).await?;
        file.set_max_buf_size(CHUNK);
        self.message_id = self.message_id.wrapping_add(1);
        let request = Command::StoreRq(StoreRq {
            message_id: self.message_id,
            priority: Priority::Medium,
            sop_class: Some(item.sop_class.clone()),
            sop_instance: Some(item.sop_instance.clone()),
            move_originator: None,
            has_data_set: true,
        });
        self.association.send(context, &request).await?;
        let mut writer = self.association.data_set(context);
        self.buffer.resize(CHUNK, 0);
        loop {
            // A read error leaves the writer unfinished: the peer never sees a last fragment.
            let count = file.read(&mut self.buffer).await?;
            if count == 0 {
                break;
            }
            writer.write(&self.buffer[..count]).await?;
        }
        writer.finish().await?;
        match self.association.next().await.map_err(failure)? {
            Event::Command {
                command: Command::StoreRsp(answer),
                ..
            } if answer.message_id == self.message_id => {
                if is_stored(answer.status) {
                    Ok(answer.status)
                } else {
                    Err(Failure::Status(answer.status))
                }
            }
            _ => Err(Failure::WrongAnswer),
        }
    }

    pub(super) async fn echo(&mut self) -> Result<(), Failure> {
        let context = self.association.accepted_class(&Uid::known(VERIFICATION));
        let context = context.ok_or(Failure::NoContext)?;
        self.message_id = self.message_id.wrapping_add(1);
        let request = Command::EchoRq {
            message_id: self.message_id,
        };
        self.association.send(context, &request).await?;
        match self.association.next().await.map_err(failure)? {
            Event::Command {
                command: Command::EchoRsp { message_id, status },
                ..
            } if message_id == self.message_id => match status {
                0 => Ok(()),
                status => Err(Failure::Status(status)),
            },
            _ => Err(Failure::WrongAnswer),
        }
    }

    pub(super) async fn release(self) {
        // Every file has its answer already: how the peer takes its leave changes nothing.
        drop(self.association.release().await);
    }

    pub(super) async fn abort(self) {
        self.association.abort(0, 0).await;
    }
}

/// The stream, and where the peer is.
async fn connect(
    options: &Options,
    connector: Option<&Connector>,
) -> Result<(Box<dyn Stream>, Option<SocketAddr>), Failure> {
    let address = (options.host.as_str(), options.port);
    let stream = timeout(options.connect, TcpStream::connect(address))
        .await
        .map_err(|_| Failure::Connect("timed out".to_owned()))?
        .map_err(|error| Failure::Connect(error.to_string()))?;
    let address = stream.peer_addr().ok();
    let stream = Prompt::new(stream);
    let Some(connector) = connector else {
        return Ok((Box::new(stream), address));
    };
    match connector.connect(&options.host, stream, options.connect).await {
        Ok(secured) => Ok((Box::new(secured), address)),
        Err(failure) => Err(wrong_port::of_handshake(failure, address).await.into()),
    }
}

/// With TLS 1.3 a peer refuses our certificate only after the handshake: said in TLS words.
fn failure(error: UlError) -> Failure {
    match &error {
        UlError::Io(io) => refusal(io).map_or(Failure::Association(error), Failure::Handshake),
        _ => Failure::Association(error),
    }
}
