//! Payload files of the simulated spool (`bench.rs`): what a start would find in them. In builds with planted faults only.
use super::inspect::Found;
use super::model::Instance;
use super::payload::FileState;
use super::record::InstanceRecord;

/// A payload file as a start finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum File {
    Empty,
    Partial,
    /// Sealed, and not known to be committed.
    Sealed(Box<Instance>),
    Committed(Box<Instance>),
    Delivered(Box<Instance>),
}

pub(super) fn found(file: &File) -> Found {
    let whole = |instance: &Instance, state| Found::Whole(Box::new(record(instance)), state);
    match file {
        File::Empty => Found::Empty,
        File::Partial => Found::Partial,
        File::Sealed(instance) => whole(instance, FileState::Sealed),
        File::Committed(instance) => whole(instance, FileState::Committed),
        File::Delivered(instance) => whole(instance, FileState::Delivered),
    }
}

pub(super) fn record(instance: &Instance) -> InstanceRecord {
    InstanceRecord {
        instance: instance.clone(),
        data_set_offset: 512,
        private_offset: 256,
        delivered: false,
        done: Vec::new(),
    }
}
