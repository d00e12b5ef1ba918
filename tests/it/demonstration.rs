//! The demo is stopped as any program is: its boxes go with it. What it shows is `make demo`'s.
use crate::harness::tools::{Owned, clean};
use crate::harness::{SOON, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The processes that a process has started and that are not its threads.
fn children(of: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_demo_that_is_told_to_stop_leaves_no_box_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
        command.args(["demo", "--keep"]).arg(folder.path());
        clean(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut demo = Owned(command.spawn().expect("it starts"));
        wait_until("an archive and a box", SOON, || children(demo.0.id()).len() == 2);
        let boxes = children(demo.0.id());
        kill_process(Pid::from_child(&demo.0), signal).expect("it runs");
        wait_until("the end", SOON, || !demo.running());
        assert_eq!(demo.0.wait().expect("ended").code(), Some(1));
        let runs = |id: &String| {
            let status = fs::read_to_string(Path::new("/proc").join(id).join("status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        wait_until("the end of its boxes", SOON, || !boxes.iter().any(runs));
    }
}
