//! The README's ten minutes, done by a machine: every block that is marked `<!-- tour -->` is run, in order, in one shell, in an empty
//! folder with the repository's configuration and rules, and must succeed.
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The marked shell blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let marked = page.split("<!-- tour -->").skip(1);
    let block = marked.filter_map(|rest| {
        rest.split_once("```sh\n")?
            .1
            .split_once("```")
            .map(|(block, _)| block.to_owned())
    });
    block.collect()
}

/// The tour's ports are those of the shipped configuration; another box on this machine must not be disturbed.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder can be listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

#[test]
fn the_readme_tour_works_as_written() {
    let page = std::fs::read_to_string(repository().join("README.md")).expect("the README");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 5, "the tour has lost its marks");
    let folder = tempfile::tempdir().expect("a folder");
    copy(&repository().join("rules"), &folder.path().join("rules"));
    copy(&repository().join("config"), &folder.path().join("config"));
    let (dicom, web) = (free_port().to_string(), free_port().to_string());
    let moved = |text: &str| text.replace("11112", &dicom).replace("9464", &web);
    let config = folder.path().join("config/waystation.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, moved(&text)).expect("written");

    let script = format!(
        "set -euo pipefail\ntrap 'jobs -p | xargs -r kill -9 2>/dev/null' EXIT\n{}\necho tour-completed\n",
        moved(&blocks.join("\n"))
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_waystation"));
    let path = format!(
        "{}:{}",
        binary.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    // Job control, so that `%1` is the box.
    let mut shell = Command::new("timeout");
    shell
        .args(["120", "bash", "-m", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path);
    let output = shell.output().expect("bash is there");
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.contains("tour-completed"), "{said}");
    let delivered = said
        .lines()
        .filter(|line| line.starts_with("var/delivered/") && line.ends_with(".dcm"))
        .count();
    assert!(delivered > 0, "nothing was delivered during the tour:\n{said}");
    let waits = |line: &&str| line.split_whitespace().skip(1).take(2).eq(["queued", "vna"]);
    let waiting = said.lines().filter(waits).count();
    assert_eq!(waiting, 3, "nothing was held back to look at:\n{said}");
}
