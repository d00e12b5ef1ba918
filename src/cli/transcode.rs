//! The child process of a conversion: see `transcode::worker`. Never started by a person.
use clap::Args;
use std::process::ExitCode;
use waystation::base::names::Uid;
use waystation::transcode::worker::{self, Task};

/// The worker's limits and its task.
#[derive(Args, Debug)]
pub struct Worker {
    #[arg(long)]
    memory: u64,
    #[arg(long)]
    cpu: u64,
    #[arg(long)]
    output: u64,
    /// Transfer Syntax UID of what comes in
    from: String,
    /// Transfer Syntax UID to write; without it the worker only looks
    to: Option<String>,
}

/// One task, from standard input to standard output.
pub fn run(worker: &Worker) -> ExitCode {
    let to = worker.to.as_deref().map(Uid::parse).transpose();
    let (Ok(from), Ok(to)) = (Uid::parse(&worker.from), to) else {
        return ExitCode::from(2);
    };
    let task = Task {
        from,
        to,
        memory: worker.memory,
        cpu: worker.cpu,
        output: worker.output,
    };
    match worker::run(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(super::FAILED),
    }
}
