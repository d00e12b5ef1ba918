//! Credentials in a whole configuration: put in wherever a text stands, one problem at its own line where they cannot be.
use super::*;

const SITE: &str = r#"
[rules]
path = "RULES"
key_file = "${CREDENTIALS_DIRECTORY}/secrets_site.key"
[[listeners]]
name = "dicom"
address = "127.0.0.1:11112"
ae_titles = ["BOX"]
[listeners.tls]
certificate = "${CREDENTIALS_DIRECTORY}/secrets_box.pem"
key = "${CREDENTIALS_DIRECTORY}/secrets_box.key"
client_certificate = "none"
[[sources]]
name = "ct1"
calling_ae = ["CT1"]
addresses = ["10.0.0.0/8"]
"#;

/// The report, with the manager's folder or without one, and the file's lines replaced.
fn reported(folder: &Path, credentials: bool, change: (&str, &str)) -> Report {
    let file = folder.join("w.toml");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
    let node = format!("[node]\nstate = {:?}\n", folder.join("var"));
    let site = SITE.replace("RULES", rules).replace(change.0, change.1);
    std::fs::write(&file, format!("{node}{site}")).unwrap();
    let variable = (
        credentials::VARIABLE.to_owned(),
        folder.join("credentials").display().to_string(),
    );
    report_with(
        &[file],
        if credentials {
            std::slice::from_ref(&variable)
        } else {
            &[]
        },
    )
}

fn errors(report: &Report) -> Vec<String> {
    let errors = report
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    errors.map(ToString::to_string).collect()
}

fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["box.example".to_owned()]).unwrap();
    std::fs::write(credentials.join("secrets_box.pem"), made.cert.pem()).unwrap();
    std::fs::write(credentials.join("secrets_box.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(credentials.join("secrets_site.key"), "0123456789abcdef".repeat(4)).unwrap();
    // As the manager hands it over.
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    std::fs::set_permissions(credentials.join("secrets_site.key"), own).unwrap();
    folder
}

#[test]
fn the_managers_files_are_put_in_and_loaded() {
    let folder = site();
    let report = reported(folder.path(), true, ("", ""));
    // The starter rules name destinations that this site has not; that is another matter.
    let said: Vec<String> = errors(&report)
        .into_iter()
        .filter(|line| line.contains("w.toml"))
        .collect();
    assert_eq!(said, Vec::<String>::new());
    let (found, _) = rules(&[folder.path().join("w.toml")]).err().map_or_else(
        || panic!("CREDENTIALS_DIRECTORY is set in this test run"),
        |problems| (problems, ()),
    );
    assert!(
        found[0]
            .to_string()
            .contains("rules.key_file: CREDENTIALS_DIRECTORY is not set"),
        "{found:?}"
    );
}

#[test]
fn each_credential_that_cannot_be_named_is_said_once_at_its_line() {
    let folder = site();
    let said = errors(&reported(folder.path(), false, ("", "")));
    let about = |line: &&String| line.contains("w.toml") || line.contains("CREDENTIALS_DIRECTORY");
    let of_file: Vec<&String> = said.iter().filter(about).collect();
    assert_eq!(of_file.len(), 3, "{said:#?}");
    for (line, key) in [
        (6, "rules.key_file"),
        (12, "listeners[0].tls.certificate"),
        (13, "listeners[0].tls.key"),
    ] {
        assert!(
            of_file
                .iter()
                .any(|said| said.contains(&format!("w.toml:{line}:1: {key}: CREDENTIALS_DIRECTORY is not set"))),
            "{key} in {said:#?}"
        );
    }
    let said = errors(&reported(folder.path(), true, ("secrets_box.key", "../../etc/shadow")));
    assert!(
        said.iter()
            .any(|line| line.contains("tls.key: `../../etc/shadow` is no credential's name")),
        "{said:#?}"
    );
    let said = errors(&reported(
        folder.path(),
        true,
        ("${CREDENTIALS_DIRECTORY}/secrets_site.key", "${HOME}/site.key"),
    ));
    assert!(
        said.iter()
            .any(|line| line.contains("rules.key_file: only ${CREDENTIALS_DIRECTORY}/NAME")),
        "{said:#?}"
    );
    let said = errors(&reported(folder.path(), true, ("secrets_box.key", "secrets_none.key")));
    assert!(
        said.iter().any(|line| line.contains("secrets_none.key")),
        "a file that is not there: {said:#?}"
    );
}
