//! What is called good starts, and takes something in.
use super::super::user::User;
use super::super::{Severity, report_for, report_with};
use super::{RIGHT, Site, assert_says};

#[test]
fn a_control_socket_that_cannot_be_made_or_would_replace_something_is_refused() {
    let site = Site::new();
    std::fs::create_dir(site.path("var")).unwrap();
    let said = |path: &str| site.lines(&RIGHT.replace("[web]", &format!("[control]\npath = \"STATE/{path}\"\n[web]")));
    assert_says(
        &said("none/x.sock"),
        "control.path: the folder none does not exist, and the box makes none",
    );
    assert_says(&said("var"), "control.path: var is a folder: name a file in it");
    site.write("precious", "a file");
    assert_says(&said("precious"), "control.path: precious is there and is no socket");
    assert_says(&said(".."), "control.path: is no file's name");
    let socket = std::os::unix::net::UnixListener::bind(site.path("old.sock")).unwrap();
    drop(socket);
    for good in ["old.sock", "new.sock", "var/control.sock"] {
        assert_eq!(said(good), Vec::<String>::new(), "{good}");
    }
    // The box makes its state folder, and the spool's, before the socket.
    std::fs::remove_dir(site.path("var")).unwrap();
    for good in ["var/control.sock", "var/spool/control.sock"] {
        assert_eq!(said(good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_folder_with_something_else_in_it_is_no_place_for_a_spool() {
    let site = Site::new();
    let text = RIGHT.replace("[web]", "[spool]\npath = \"STATE/data\"\n[web]");
    std::fs::create_dir_all(site.path("data/lost+found")).unwrap();
    assert_eq!(site.lines(&text), Vec::<String>::new());
    site.write("data/letter.txt", "not ours");
    assert_says(&site.lines(&text), "spool.path: data is neither empty nor a spool");
    site.write("data/waystation-spool", "1");
    assert_eq!(site.lines(&text), Vec::<String>::new());
}

#[test]
fn an_empty_state_folder_is_refused() {
    let site = Site::new();
    let empty = [("WAYSTATION_NODE__STATE".to_owned(), String::new())];
    let report = report_with(&[site.write("w.toml", RIGHT)], &empty);
    let said: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert_says(&said, "environment WAYSTATION_NODE__STATE: node.state: is empty");
}

#[test]
fn bounds_of_nothing_and_spans_without_end_are_refused() {
    let text = RIGHT
        .replace("[web]", "[limits]\nmax_associations = 0\nmax_instance = \"0B\"\n[web]")
        .replace(
            "[\"BOX\"]",
            "[\"BOX\"]\ntimeouts = { idle = \"0s\", association = \"18446744073709551615s\" }",
        )
        .replace("[\"CT1\"]", "[\"CT1\"]\nmax_associations = 0");
    let lines = Site::new().lines(&text);
    for wanted in [
        "limits.max_associations: is 0",
        "limits.max_instance: is 0",
        "listeners[0].timeouts.idle: is 0",
        "listeners[0].timeouts.association: `18446744073709551615s` is longer than 100years",
        "sources[0].max_associations: is 0",
    ] {
        assert_says(&lines, wanted);
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn ports_are_taken_as_the_system_takes_them() {
    let site = Site::new();
    let collide = |one: &str, other: &str| {
        let second = format!("[[listeners]]\nname = \"b\"\naddress = \"{other}:11112\"\nae_titles = [\"BOX\"]\n");
        let text = RIGHT.replace("127.0.0.1:11112", &format!("{one}:11112"));
        let lines = site.lines(&format!("{text}{second}"));
        assert!(lines.iter().all(|line| line.contains("is taken by")), "{lines:#?}");
        !lines.is_empty()
    };
    for (one, other, taken) in [
        ("0.0.0.0", "[::1]", false),
        ("127.0.0.1", "[::1]", false),
        ("127.0.0.1", "127.0.0.2", false),
        ("0.0.0.0", "127.0.0.1", true),
        ("0.0.0.0", "[::]", true),
        ("127.0.0.1", "[::]", true),
        ("[::]", "[::1]", true),
        ("127.0.0.1", "[::ffff:127.0.0.1]", true),
        ("0.0.0.0", "[::ffff:127.0.0.1]", true),
    ] {
        assert_eq!(collide(one, other), taken, "{one} and {other}");
        assert_eq!(collide(other, one), taken, "{other} and {one}");
    }
}

#[test]
fn a_title_that_gets_round_its_certificate_is_said() {
    let tls = "certificate_names = [\"ct1.example\"]\n";
    let again = "[[sources]]\nname = \"ct1b\"\ncalling_ae = [\"CT1\"]\naddresses = [\"10.1.0.0/16\"]\n";
    let bound_first = RIGHT.replace("name = \"ct1\"\n", &format!("name = \"ct1\"\n{tls}"));
    for (text, open, bound) in [
        (format!("{bound_first}{again}"), 1, 0),
        (format!("{RIGHT}{again}{tls}"), 0, 1),
    ] {
        assert_says(
            &Site::new().lines(&text),
            &format!(
                "warning: sources[{open}].calling_ae: `CT1` from the same network is bound to a certificate by sources[{bound}], \
                 and is admitted here without one"
            ),
        );
    }
    let both = Site::new().lines(&format!(
        "{bound_first}{again}certificate_names = [\"other.example\"]\n"
    ));
    assert!(!both.iter().any(|line| line.contains("calling_ae")), "{both:#?}");
}

#[test]
fn what_the_boxs_user_cannot_use_is_a_problem_of_its_key() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let site = Site::new();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for folder in ["var", "rules", "delivered"] {
        std::fs::create_dir(site.path(folder)).unwrap();
    }
    site.write("rules/main.rhai", "fn route(image, from) { to(\"vna\"); }");
    let text = RIGHT
        .replace("RULES", "STATE/rules")
        .replace("STATE/var/out", "STATE/delivered");
    let file = site.write("w.toml", &text);
    mode("", 0o755);
    mode("rules", 0o755);
    mode("var", 0o777);
    mode("delivered", 0o755);
    mode("rules/main.rhai", 0o600);
    mode("w.toml", 0o644);
    let uid = std::fs::metadata(&file).unwrap().uid();
    let report = |uid| report_for(std::slice::from_ref(&file), &[], |_| Some(User::of_number(uid)));
    assert_eq!(report(uid).problems, []);
    let report = report(uid + 1);
    let keys: Vec<&str> = report.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["destinations[0].path", "rules.path"], "{:?}", report.problems);
    // Where one destination's files go is its lane's trouble: the box starts.
    let severities: Vec<Severity> = report.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Error]);
    assert!(report.problems.iter().all(|problem| problem.line.is_some()));
    // And rules that it cannot read are no more than wrong ones, for which those in force before may stand in.
    assert!(report.config.is_none() && report.but_for_rules.is_some());
}

#[test]
fn a_file_of_the_boxs_own_that_its_user_cannot_open_is_a_problem() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let site = Site::new();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    for folder in ["rules", "var", "var/spool", "var/spool/index"] {
        std::fs::create_dir(site.path(folder)).unwrap();
        mode(folder, 0o777);
    }
    site.write("rules/main.rhai", "fn route(image, from) { to(\"vna\"); }");
    let file = site.write("w.toml", &RIGHT.replace("RULES", "STATE/rules"));
    let readable = [
        "w.toml",
        "rules/main.rhai",
        "var/spool/index/CURRENT",
        "var/spool/stray",
    ];
    // A lock needs no right to write.
    let own = [
        "var/lock",
        "var/spool-was-at",
        "var/spool/waystation-spool",
        "var/spool/index/LOCK",
        "var/spool/trace.key",
    ];
    for name in [&readable[2..], &own[..]].concat() {
        site.write(name, "2");
    }
    let said = |right: u32| {
        readable.iter().for_each(|name| mode(name, 0o644));
        own.iter().for_each(|name| mode(name, right));
        let stranger = std::fs::metadata(&file).unwrap().uid() + 1;
        let report = report_for(std::slice::from_ref(&file), &[], |_| Some(User::of_number(stranger)));
        report.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(said(0o666), Vec::<String>::new());
    let only_read = said(0o644);
    assert_eq!(only_read.len(), 2, "{only_read:#?}");
    assert_says(&only_read, "waystation-spool: it is");
    assert_says(&only_read, "index/LOCK: it is");
    let closed = said(0o600);
    assert_eq!(closed.len(), own.len(), "{closed:#?}");
    assert_says(&closed, "node.state: the box runs as");
    for name in ["var/lock", "var/spool-was-at", "trace.key"] {
        assert!(
            closed
                .iter()
                .any(|line| line.contains("cannot read") && line.contains("chown") && line.ends_with(name)),
            "{name}: {closed:#?}"
        );
    }
}
