//! The rule-writer's ten minutes, done by a machine: docs/rules/first.md in its own order, in one shell, in an empty folder. A block
//! with a file's name becomes that file, `sh` blocks are run and must succeed (`sh refused`: must not), and what a `text` block shows
//! must have been said by the block before it. And each example of rules/ is tried by the commands that stand at its top.
use crate::harness::{free_port, tools};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// A fenced block: the words on its fence, and its text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(fence)) => open = Some((fence.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

/// One script of all blocks: files are copied into their place when their turn comes, and what each `sh` block says goes to a file.
fn script(blocks: &[(String, String)], folder: &Path) -> String {
    let mut script = "set -euo pipefail\ntrap 'jobs -p | xargs -r kill -9 2>/dev/null' EXIT\n".to_owned();
    for (number, (fence, text)) in blocks.iter().enumerate() {
        let (kind, rest) = fence.split_once(' ').unwrap_or((fence.as_str(), ""));
        let (kept, said) = (folder.join(format!("block-{number}")), said_in(folder, number));
        std::fs::write(&kept, text).expect("writable");
        // Writing into a string cannot fail. Braces and no subshell, so that `cd` and jobs stay.
        let _ = match (kind, rest) {
            ("sh", "") => write!(script, "{{\n{text}}} &> {}\n", said.display()),
            ("sh", "refused") => write!(
                script,
                "if {{\n{text}}} &> {}; then echo block {number} was not refused; exit 1; fi\n",
                said.display()
            ),
            ("text", "") => Ok(()),
            (_, rest) => {
                let name = rest.split(' ').next().unwrap_or_default();
                assert!(name.contains('.'), "`{fence}` names no file");
                writeln!(script, "cp {} {name}", kept.display())
            }
        };
    }
    script + "echo guide-completed\n"
}

fn said_in(folder: &Path, number: usize) -> std::path::PathBuf {
    folder.join(format!("said-{number}"))
}

/// The commands in the comment at the top of a rule file: the lines that are set in.
fn commands(rules: &str) -> Vec<&str> {
    let comment = rules.lines().take_while(|line| line.starts_with("//"));
    let set_in = comment.filter_map(|line| line.strip_prefix("//     "));
    set_in
        .filter(|line| line.starts_with("openssl ") || line.contains("waystation rules "))
        .collect()
}

#[test]
fn each_example_is_tried_by_the_commands_at_its_top() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_BIN_EXE_waystation")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut count = 0;
    for folder in std::fs::read_dir(root.join("rules/examples")).expect("the examples") {
        let folder = folder.expect("an entry").path();
        let rules = std::fs::read_to_string(folder.join("main.rhai")).expect("a rule file");
        let commands = commands(&rules);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(
            commands
                .iter()
                .any(|line| line.contains(&format!("rules test rules/examples/{name} "))),
            "{name} does not say how to try it"
        );
        let place = tempfile::tempdir().expect("a folder");
        for shared in ["rules", "config"] {
            std::os::unix::fs::symlink(root.join(shared), place.path().join(shared)).expect("a link");
        }
        let mut shell = Command::new("timeout");
        tools::clean(&mut shell);
        let script = format!("set -euo pipefail\n{}\n", commands.join("\n"));
        shell
            .args(["60", "bash", "-c", &script])
            .current_dir(place.path())
            .env("PATH", &path);
        let output = shell.output().expect("bash is there");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(", 0 failed"), "{name}: {said}");
        count += 1;
    }
    assert!(count >= 4, "only {count} examples");
}

/// Whether a line is what the page shows, where `…` stands for anything.
fn shows(shown: &str, line: &str) -> bool {
    let parts: Vec<String> = shown.trim().split('…').map(regex::escape).collect();
    let pattern = regex::Regex::new(&format!("^{}$", parts.join(".*"))).expect("escaped");
    pattern.is_match(line.trim())
}

#[test]
fn the_ten_minutes_from_the_first_rule_to_a_rollout_work_as_written() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules/first.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (dicom, web) = (free_port().to_string(), free_port().to_string());
    let page = page.replace("11112", &dicom).replace("9464", &web);
    let blocks = blocks(&page);
    let folder = tempfile::tempdir().expect("a folder");
    let script = script(&blocks, folder.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_waystation")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    // Job control, so that `%1` is the box.
    let mut shell = Command::new("timeout");
    tools::clean(&mut shell);
    shell
        .args(["-k", "5", "180", "bash", "-m", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path);
    let output = shell.output().expect("bash is there");
    let said = |number: usize| std::fs::read_to_string(said_in(folder.path(), number)).unwrap_or_default();
    let all: String = (0..blocks.len()).map(said).collect();
    let end = [output.stdout, output.stderr].concat();
    let end = String::from_utf8_lossy(&end).into_owned();
    assert!(
        output.status.success() && end.contains("guide-completed"),
        "{all}\n{end}"
    );

    let mut lines_shown = 0;
    for (number, pair) in blocks.windows(2).enumerate() {
        let (fence, text) = &pair[1];
        if fence != "text" {
            continue;
        }
        let said = said(number);
        for shown in text.lines() {
            lines_shown += 1;
            assert!(
                said.lines().any(|line| shows(shown, line)),
                "the page shows\n  {shown}\nbut this was said:\n{said}"
            );
        }
    }
    assert!(lines_shown > 20, "the page has lost what it shows");
    let commands = ["check", "test", "trace", "replay", "promote", "rollback", "history"];
    for command in commands {
        let is_run = |(fence, text): &(String, String)| {
            fence.starts_with("sh") && text.contains(&format!("waystation rules {command}"))
        };
        assert!(blocks.iter().any(is_run), "the page no longer runs `rules {command}`");
    }
}
