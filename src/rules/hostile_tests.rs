//! Scripts that try to hang, fill the memory, leave the sandbox or break the interpreter. Each ends as a load problem or a
//! hold, within the deadline and a margin, on a thread with a small stack.
use super::tests::{empty_head, facts, files, reason, set};
use super::{Decision, HoldKind};
use std::time::{Duration, Instant};

/// How a hostile rule must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Refused at load.
    Refused,
    Held(HoldKind),
    /// Ends by itself, harmlessly; the instance is held because no destination is named.
    Harmless,
}

/// A name, the body of `route`, and the end it must have.
const BODIES: &[(&str, &str, End)] = &[
    ("endless loop", "loop { }", End::Held(HoldKind::Budget)),
    (
        "endless while",
        "let x = 0; while true { x += 1; x -= 1; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "huge range",
        "let x = 0; for i in 0..9223372036854775807 { x = i; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "string doubling",
        "let s = \"x\"; loop { s += s; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "string doubling by call",
        "let s = \"x\"; loop { s = s + s; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "interpolation bomb",
        "let s = \"x\"; loop { s = `${s}${s}`; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "pad bomb",
        "let s = \"x\"; s.pad(2000000000, \"y\");",
        End::Held(HoldKind::Budget),
    ),
    (
        "array pad bomb",
        "let a = []; a.pad(2000000000, 0);",
        End::Held(HoldKind::Budget),
    ),
    (
        "pad_left bomb",
        "pad_left(\"x\", 2000000000, \"0\");",
        End::Held(HoldKind::Budget),
    ),
    (
        "array growth",
        "let a = [1]; loop { a += a; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "array push",
        "let a = []; loop { a.push(1); }",
        End::Held(HoldKind::Budget),
    ),
    (
        "array nesting",
        "let a = []; loop { a = [a, a]; }",
        End::Held(HoldKind::Budget),
    ),
    (
        "map growth",
        "let m = #{}; let i = 0; loop { m[`k${i}`] = i; i += 1; }",
        End::Held(HoldKind::Budget),
    ),
    ("map of long keys", LONG_KEYS, End::Held(HoldKind::Budget)),
    (
        "replace bomb",
        "let s = \"x\"; s.pad(16000, \"x\"); let t = s; s.replace(\"x\", t);",
        End::Held(HoldKind::Budget),
    ),
    (
        "replace between letters",
        "let s = \"x\"; s.pad(16000, \"x\"); let t = s; s.replace(\"\", t);",
        End::Held(HoldKind::Budget),
    ),
    (
        "replace letter",
        "let s = \"x\"; s.pad(16000, \"x\"); let t = s; s.replace('x', t);",
        End::Held(HoldKind::Budget),
    ),
    ("regex replace bomb", REGEX_REPLACE, End::Held(HoldKind::Budget)),
    (
        "split into letters",
        "let s = \"x\"; s.pad(16000, \"x\"); let a = s.split(\"\"); a.len",
        End::Held(HoldKind::Budget),
    ),
    ("backtracking regex", BACKTRACK, End::Harmless),
    (
        "large regex",
        "matches(\"x\", \"((a{1,100}){1,100}){1,100}\")",
        End::Refused,
    ),
    (
        "computed large regex",
        "let p = \"a\"; matches(\"x\", p + \"{1,1000}{1,1000}\")",
        End::Held(HoldKind::Error),
    ),
    (
        "many computed regexes",
        "let i = 0; loop { matches(\"x\", `a{1,${i % 100 + 1}}[a-z]+\\\\pL`); i += 1; }",
        End::Held(HoldKind::Budget),
    ),
    ("eval", "eval(\"to(`vna`)\")", End::Refused),
    ("print", "print(\"x\")", End::Refused),
    ("import of a file", "import \"/etc/passwd\" as x;", End::Refused),
    ("import upwards", "import \"../secret\" as x;", End::Refused),
    (
        "computed import",
        "let p = \"/etc/\"; import p + \"passwd\" as x;",
        End::Held(HoldKind::Error),
    ),
    ("sleep", "sleep(3)", End::Refused),
    (
        "sleep through a pointer",
        "let f = Fn(\"sleep\"); f.call(3)",
        End::Held(HoldKind::Error),
    ),
    ("clock", "timestamp()", End::Refused),
    ("random", "rand()", End::Refused),
    ("JSON", "parse_json(\"{}\")", End::Refused),
    ("blob", "blob(100000000)", End::Refused),
    ("closure", "let f = || 1; f.call()", End::Refused),
    ("throw", "throw \"PATIENT^NAME\";", End::Held(HoldKind::Error)),
    (
        "overflow",
        "let x = 9223372036854775807; x += 1;",
        End::Held(HoldKind::Error),
    ),
    (
        "smallest number negated",
        "let x = -9223372036854775807 - 1; x = -x;",
        End::Held(HoldKind::Error),
    ),
    (
        "smallest number by -1",
        "let x = -9223372036854775807 - 1; let y = -1; x / y",
        End::Held(HoldKind::Error),
    ),
    ("division by zero", "let x = 0; 1 / x", End::Held(HoldKind::Error)),
    ("remainder by zero", "let x = 0; 1 % x", End::Held(HoldKind::Error)),
    ("huge shift", "let x = 1; x << 9223372036854775807", End::Harmless),
    (
        "huge power",
        "let x = 10; x ** 9223372036854775807",
        End::Held(HoldKind::Error),
    ),
    (
        "bad index",
        "let a = [1]; a[-9223372036854775807]",
        End::Held(HoldKind::Error),
    ),
    (
        "sub_string at the ends",
        "\"abc\".sub_string(-9223372036854775807, 9223372036854775807)",
        End::Harmless,
    ),
    ("unknown function", "nothing()", End::Refused),
    ("wrong number of arguments", "to(1, 2, 3)", End::Refused),
    ("wrong arguments", "to(1, 2)", End::Held(HoldKind::Error)),
    (
        "caught budget",
        "loop { try { loop { } } catch { } }",
        End::Held(HoldKind::Budget),
    ),
    ("recursion", "deeper(0)", End::Held(HoldKind::Budget)),
    ("mutual recursion", "ping(0)", End::Held(HoldKind::Budget)),
    ("many variables", MANY_VARIABLES, End::Held(HoldKind::Budget)),
    (
        "sort with a liar",
        "let a = []; a.pad(900, 1); a.sort(liar)",
        End::Harmless,
    ),
    ("image in itself", "let a = [image]; a.push(a); a.len", End::Harmless),
    ("edit in route", "image.PatientID = \"X\"", End::Refused),
    (
        "computed destination",
        "let d = \"PATIENT\"; to(d + \"^NAME\")",
        End::Held(HoldKind::Error),
    ),
    (
        "property of nothing",
        "let m = #{}; m.a.b.c",
        End::Held(HoldKind::Error),
    ),
];

const FUNCTIONS: &str = "
fn deeper(n) { deeper(n + 1) }
fn ping(n) { pong(n + 1) }
fn pong(n) { ping(n + 1) }
fn liar(a, b) { 1 }
";
const LONG_KEYS: &str = "let k = \"x\"; k.pad(16000, \"x\"); let i = 0; let all = [];
    loop { let m = #{}; for j in 0..30 { i += 1; let l = k; l += `${i}`; m[l] = 1; } all.push(m); }";
const REGEX_REPLACE: &str = "let s = \"x\"; s.pad(16000, \"x\"); let w = \"$0\"; w.pad(256, \"$0\");
    let t = replace_regex(s, \".*\", w); replace_regex(s, \"x\", t);";
const BACKTRACK: &str = "let s = \"a\"; s.pad(16000, \"a\"); matches(s + \"!\", \"^(a+)+$\");";
const MANY_VARIABLES: &str = "let a1=1; let a2=1; let a3=1; let a4=1; let a5=1; let a6=1; let a7=1; let a8=1; let a9=1;
    let b1=1; let b2=1; let b3=1; let b4=1; let b5=1; let b6=1; let b7=1; let b8=1; let b9=1; let c1=1; let c2=1; let c3=1;
    let c4=1; let c5=1; let c6=1; let c7=1; let c8=1; let c9=1; let d1=1; let d2=1; let d3=1; let d4=1; let d5=1;";

/// Whole files that must be refused at load.
fn refused_files() -> Vec<(&'static str, String)> {
    let route = "fn route(image, from) { to(\"vna\") }";
    vec![
        ("no route", "fn morph(image, from) { }".to_owned()),
        ("syntax", "fn route(image, from) { to(\"vna\" }".to_owned()),
        (
            "deep expression",
            format!(
                "fn route(image, from) {{ {}1{} }}",
                "(".repeat(5_000),
                ")".repeat(5_000)
            ),
        ),
        (
            "deep blocks",
            format!("fn route(image, from) {{ {}{} }}", "{".repeat(5_000), "}".repeat(5_000)),
        ),
        (
            "deep arrays",
            format!("fn route(image, from) {{ {}{} }}", "[".repeat(5_000), "]".repeat(5_000)),
        ),
        (
            "deep negation",
            format!("fn route(image, from) {{ {}1 }}", "-".repeat(50_000)),
        ),
        (
            "long chain",
            format!("fn route(image, from) {{ 1{} }}", " + x".repeat(50_000)),
        ),
        ("huge text", format!("{route} const A = \"{}\";", "x".repeat(100_000))),
        ("huge array", format!("{route} const A = [{}];", "1,".repeat(20_000))),
        ("endless top level", format!("{route} loop {{ }}")),
        ("top level with to", format!("{route} to(\"vna\");")),
        ("function twice", format!("{route} {route}")),
        (
            "many functions",
            (0..1_000).map(|n| format!("fn f{n}() {{ }}\n")).collect::<String>() + route,
        ),
        ("wrong parameters", "fn route(image) { }".to_owned()),
        (
            "unknown morph_for",
            format!("{route} fn morph_for_nowhere(image, from) {{ }}"),
        ),
    ]
}

fn on_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
    thread.join().unwrap()
}

fn end(body: &str) -> (End, Duration, Option<Decision>) {
    let text = format!("{FUNCTIONS} fn route(image, from) {{\n{body}\n}}");
    let Ok(set) = set(&text) else {
        return (End::Refused, Duration::ZERO, None);
    };
    let start = Instant::now();
    let decision = set.decide(&facts(), &empty_head());
    let took = start.elapsed();
    let hold = decision.hold.clone().unwrap();
    let end = match hold.kind {
        HoldKind::NoDestination => End::Harmless,
        kind => End::Held(kind),
    };
    (end, took, Some(decision))
}

#[test]
fn hostile_rules_end_as_holds_or_load_problems_in_time() {
    for (name, body, wanted) in BODIES {
        let (got, took, decision) = on_small_stack(move || end(body));
        assert_eq!(got, *wanted, "{name}: {decision:?}");
        assert!(took < Duration::from_millis(250 + 750), "{name} took {took:?}");
        let reason = decision
            .and_then(|d| d.hold)
            .map(|hold| hold.reason)
            .unwrap_or_default();
        assert!(!reason.contains("PATIENT"), "{name}: {reason}");
    }
    assert!(BODIES.len() >= 27);
}

#[test]
fn a_budget_that_went_in_an_imported_file_names_the_function_that_was_called() {
    let main = "import \"h\" as h; fn morph(image, from) { h::spin(); } fn route(image, from) { to(\"vna\"); }";
    let set = files(&[
        ("main.rhai", main),
        ("h.rhai", "fn spin() { let n = 0; while true { n += 1; } }"),
    ]);
    let set = set.unwrap_or_else(|problems| panic!("{problems:?}"));
    let (kind, text) = reason(&set.decide(&facts(), &empty_head()));
    assert_eq!(kind, HoldKind::Budget);
    assert!(
        text.starts_with("main.rhai, in morph or what it calls: the rule took"),
        "{text}"
    );
}

#[test]
fn a_computed_pattern_that_is_too_long_is_said_to_be() {
    let said = |rounds: usize| {
        let rule = format!("let p = \"\"; for i in 0..{rounds} {{ p += \"(\"; }} matches(\"a\", p);");
        let set = set(&format!("fn route(image, from) {{ {rule} to(\"vna\"); }}"));
        let set = set.unwrap_or_else(|problems| panic!("{problems:?}"));
        reason(&set.decide(&facts(), &empty_head())).1
    };
    assert!(
        said(513).ends_with("a regular expression is longer than 512 bytes"),
        "{}",
        said(513)
    );
    assert!(said(3).contains("is not valid"), "{}", said(3));
}

#[test]
fn hostile_files_are_refused_at_load() {
    for (name, text) in refused_files() {
        let problems = on_small_stack(move || set(&text).err());
        let problems = problems.unwrap_or_else(|| panic!("{name} was loaded"));
        assert!(!problems.is_empty(), "{name}");
    }
}

#[test]
fn memory_stays_bounded_under_bombs() {
    let before = peak_kib();
    for (_, body, _) in BODIES
        .iter()
        .filter(|(name, ..)| name.contains("bomb") || name.contains("keys"))
    {
        on_small_stack(move || end(body));
    }
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 256 << 10, "the bombs took {grown} KiB");
}

/// The most memory this process ever had resident.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn deep_calls_of_deep_expressions_fit_a_small_stack() {
    let open = "(1 + ".repeat(6);
    let text = format!(
        "fn down(n) {{ if n > 0 {{ if true {{ if true {{ {open} down(n - 1) {} }} }} }} else {{ 0 }} }}
         fn route(image, from) {{ down(13); to(\"vna\"); }}",
        ")".repeat(6)
    );
    let decision = on_small_stack(move || {
        set(&text)
            .unwrap_or_else(|p| panic!("{p:?}"))
            .decide(&facts(), &empty_head())
    });
    assert_eq!(decision.hold, None);
}
